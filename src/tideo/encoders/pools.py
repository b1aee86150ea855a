"""The pool of a video: features of the frames that a selector chooses from, made once and kept in a store.

Shapes: P frames, D width.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import open_features, unit_rows
from tideo.encoders.pool_pass import changed, each, make_pools, pool_key
from tideo.loading import Loading
from tideo.parallel import Failure
from tideo.store.features import FeatureStore
from tideo.store.remote import content_of
from tideo.types import Features, Video, VideoError
from tideo.video.pool import PoolSettings

NAMED = 5  # stretches of lost frames that a line names


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The features of a video's frames [P, D] at their times. `missing_s`: the times whose frames are lost."""

    features: Features
    missing_s: tuple[float, ...] = ()

    @property
    def times_s_P(self) -> np.ndarray:
        assert self.features.pts_s_T is not None
        return self.features.pts_s_T

    def lost(self) -> str:
        """Words for the frames that are lost, by stretches; empty if there are none."""
        if not self.missing_s:
            return ""
        bounds = np.searchsorted(self.times_s_P, self.missing_s)
        starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(bounds)) if a != b), len(bounds)]
        spans = [f"{self.missing_s[a]:.0f} to {self.missing_s[b - 1]:.0f} s" for a, b in pairwise(starts)]
        more = f" and {len(spans) - NAMED} more stretches" if len(spans) > NAMED else ""
        num = len(self.missing_s) + len(self.times_s_P)
        return (
            f"of the {num} frames of its pool {len(self.missing_s)} could not be decoded (damaged or cut off, from "
            f"{', '.join(spans[:NAMED])}{more})"
        )


def read_pool(store: FeatureStore, key: str) -> Pool:
    """Raises KeyError for a pool that is not there."""
    values_TD, pts_s_T = store[key], store.pts_s(key)
    assert pts_s_T is not None
    found = values_TD.any(axis=1)
    features = Features(
        values_TD=unit_rows(values_TD[found].astype(np.float32)),
        pts_s_T=pts_s_T[found],
        modality="image",
        encoder=store.about["encoder"],
    )
    return Pool(features=features, missing_s=tuple(pts_s_T[~found].tolist()))


class Pools:
    """The pools of one encoder with one kind of settings, read from a folder, or made and kept there.

    `encoder`: one that is loaded, or a name that `load_encoder` takes, loaded when it is needed. {encoder} in the
    folder's name stands for its id; without a folder pools are kept for as long as the object lives. Threads may share
    it.
    """

    def __init__(
        self,
        encoder: str | DualEncoder,
        *,
        settings: PoolSettings,
        folder: str | Path | None = None,
        loading: Loading | None = None,
    ) -> None:
        self.settings, self.folder = settings, folder
        self._named, self._loading = encoder, loading
        self._lock = threading.RLock()
        self._failed: dict[str, Failure] = {}

    @cached_property
    def encoder(self) -> DualEncoder:
        with self._lock:
            if isinstance(self._named, str):
                self._named = load_encoder(self._named, loading=self._loading)
            return self._named

    @cached_property
    def _store(self) -> FeatureStore:
        """Raises UserError for a folder of another encoder's features."""
        if self.folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="tideo-pools-")
            return open_features(self._temporary.name, self.encoder, modality="image")
        folder = str(self.folder).replace("{encoder}", self.encoder.id)
        return open_features(folder, self.encoder, modality="image")

    def make(self, videos: Sequence[Video]) -> dict[str, Failure]:
        """Make the pools that are missing; returns the failures, by the videos' paths."""
        with self._lock:
            contents = each({video.path: video.path for video in videos}, content_of, cluster=None)
            keys = {
                v: pool_key(c, v, self.settings) for v in videos if isinstance(c := contents[v.path], str)
            }
            store = self._store  # which raises for another encoder's folder, also without videos
            done = {key for key in keys.values() if key in store or key in self._failed}
            units = {key: video for video, key in keys.items() if key not in done}
            if units and self.folder is not None:
                del self._store  # another process may have made them meanwhile
                units = {key: video for key, video in units.items() if key not in self._store}
            if units:
                self._failed |= make_pools(
                    units, self._store, settings=self.settings, load=lambda: self.encoder
                )
            unread = {path: f for path, f in contents.items() if isinstance(f, Failure)}
            return unread | {v.path: self._failed[key] for v, key in keys.items() if key in self._failed}

    def pool(self, video: Video) -> Pool:
        """The pool of a video or segment; makes it if it is missing. Raises VideoError if it cannot be made."""
        with self._lock:
            failed = self.make([video])
            if video.path in failed:
                raise VideoError(failed[video.path].reason)
            key = pool_key(content_of(video.path), video, self.settings)
            if key not in self._store:
                raise VideoError(changed(video).reason)
            return read_pool(self._store, key)
