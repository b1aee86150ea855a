"""Videos → the rows of their pools in a store: one pass over each, part by part, which a kill cannot spoil.

    DIR/shard-*   a pool's rows by its key, times included, once it is complete
    DIR/parts-*   the parts of pools whose pass is under way or was ended: the next one continues it

A pool is complete once all its parts are encoded and the video still has the content of its key. A frame that is lost
has a row of zeros at its time.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from tideo.cluster import Cluster, mapped
from tideo.encoders.commits import Commits, committed
from tideo.encoders.dual import DualEncoder
from tideo.encoders.features import frames_features
from tideo.encoders.stages import Rows, Stages
from tideo.parallel import Failure, attempted, threads
from tideo.store.features import FeatureStore
from tideo.store.files import key_of
from tideo.store.remote import content_of, local_copy
from tideo.types import Features, Frames, Video, VideoError
from tideo.video.pool import Part, PoolSettings, decode_part, pool_parts

VIDEOS = 512  # whose pools are made together
LOCK = "lock"
PART_S = 5.0  # a killed pass loses what it did after the last write, at most so long before


def pool_key(content: str, video: Video, settings: PoolSettings) -> str:
    """The key of a pool's rows in a store of one encoder."""
    frames = [settings.pool, settings.pool_fps, settings.pool_max]
    return key_of(["pool", content, video.start_s, video.end_s, frames])


def make_pools(
    units: Mapping[str, Video],
    store: FeatureStore,
    *,
    settings: PoolSettings,
    load: Callable[[], DualEncoder],
    cluster: Cluster | None = None,
    report: Callable[[Mapping[str, Failure]], object] = len,
) -> dict[str, Failure]:
    """Encode the pool of each video, by its `pool_key`, into the store, and return the failures.

    Parts are decoded in threads beside the encoder, or on the cluster, and kept as they come, so a pass that is ended,
    also by `video.limits`, goes on from there.
    """
    failed: dict[str, Failure] = {}
    with _parts_folder(store.directory) as folder:
        kept = FeatureStore(folder, dim=store.dim, about=store.about)
        for start in range(0, len(units), VIDEOS):
            keys = list(units)[start : start + VIDEOS]
            found = _make(
                {key: units[key] for key in keys}, store, kept, settings, load=load, cluster=cluster
            )
            failed |= found
            report(failed)
    return failed


def _make(
    units: Mapping[str, Video],
    store: FeatureStore,
    kept: FeatureStore,
    settings: PoolSettings,
    *,
    load: Callable[[], DualEncoder],
    cluster: Cluster | None,
) -> dict[str, Failure]:
    planned = each(units, partial(_planned, settings=settings), cluster=cluster)
    failed = {key: plan for key, plan in planned.items() if isinstance(plan, Failure)}
    plans: dict[str, list[Part]] = {key: plan for key, plan in planned.items() if key not in failed}
    parts = {_name(key, part): part for key, plan in plans.items() for part in plan}
    missing = {name: part for name, part in parts.items() if name not in kept}
    stages = Stages(decode=_decoded, encode=_part_features, size=1)
    lost = committed(missing, kept, stages=stages, load=load, cluster=cluster, seconds=PART_S)
    after = each({key: units[key].path for key in plans}, content_of, cluster=cluster)
    commits = Commits(store, rows=4096, seconds=30.0)
    for key, plan in plans.items():
        names = [_name(key, part) for part in plan]
        if failures := [lost[name] for name in names if name in lost]:
            failed[key] = failures[0]
        elif isinstance(after[key], Failure) or pool_key(after[key], units[key], settings) != key:
            failed[key] = changed(units[key])
        elif (rows := _joined(kept, names)) is None:
            failed[key] = _failure(
                units[key],
                "none of its frames could be decoded; the file may be damaged: copy or convert it again",
            )
        else:
            commits.add(key, rows)
    commits.flush()
    return failed


def _name(key: str, part: Part) -> str:
    """A part's key: another division of the pool has other parts."""
    return f"{key}/{part.first}-{part.last}"


def changed(video: Video) -> Failure:
    """Of a video that has another content than when its key was made."""
    return _failure(video, "it changed while it was read; try again when it is complete")


def _failure(video: Video, what: str) -> Failure:
    return Failure(reason=f"video {video.path}: {what}", attempts=1)


def each(units: Mapping[str, Any], work: Callable[[Any], Any], *, cluster: Cluster | None) -> dict[str, Any]:
    """`work` of each unit, or its Failure; on the cluster, whose machines may alone reach the files.

    The threads are under the limits of this one.
    """
    if cluster is not None:
        return mapped(units, work, cluster=cluster)
    with threads(8) as pool:
        begun = {key: pool.submit(copy_context().run, attempted, work, unit) for key, unit in units.items()}
        return {key: future.result() for key, future in begun.items()}


def _planned(video: Video, *, settings: PoolSettings) -> list[Part]:
    with _copied(video) as here:
        return [replace(part, video=video) for part in pool_parts(here, settings)]


def _decoded(part: Part) -> Frames:
    with _copied(part.video) as here:
        return decode_part(replace(part, video=here))


@contextmanager
def _copied(video: Video) -> Iterator[Video]:
    """The video at a path here; an error names its own."""
    with local_copy(video.path) as path:
        try:
            yield replace(video, path=path)
        except VideoError as error:
            raise VideoError(str(error).replace(path, video.path)) from error


def _part_features(parts: Sequence[Frames], encoder: DualEncoder) -> list[Features]:
    """A row for each time: zeros for a frame that is lost."""
    return [_with_lost(f, part) for f, part in zip(frames_features(parts, encoder), parts, strict=True)]


def _with_lost(features: Features, part: Frames) -> Features:
    zeros = np.zeros((len(part.missing_s), features.values_TD.shape[1]), np.float32)
    pts_s_T = np.concatenate([part.pts_s_T, part.missing_s])
    order = np.argsort(pts_s_T, kind="stable")
    values_TD = np.concatenate([features.values_TD, zeros])
    return replace(features, values_TD=values_TD[order], pts_s_T=pts_s_T[order])


def _joined(kept: FeatureStore, names: Sequence[str]) -> Rows | None:
    """The rows of a pool's parts, each frame once; None if all are lost."""
    values_TD = np.concatenate([kept[name] for name in names])
    times = [pts_s for name in names if (pts_s := kept.pts_s(name)) is not None]
    pts_s_T, once = np.unique(np.concatenate(times), return_index=True)
    return Rows(values_TD=values_TD[once], pts_s_T=pts_s_T) if values_TD.any() else None


@contextmanager
def _parts_folder(directory: Path) -> Iterator[Path]:
    """A folder for parts, of this process alone: that of a pass that was ended, or a new one. Removed at the end.

    It has its name only while its file `lock` is there and locked, or its process was killed.
    """
    try:
        folder, lock = _ended_pass(directory) or _new_pass(directory)
    except OSError as error:  # a read-only disk, most often
        raise OSError(error.errno, error.strerror, str(directory)) from error
    with lock:
        yield folder
        shutil.rmtree(folder.rename(_hidden(folder)), ignore_errors=True)


def _ended_pass(directory: Path) -> tuple[Path, IO[bytes]] | None:
    for folder in sorted(directory.glob("parts-*")):
        with suppress(FileNotFoundError):  # it was just removed
            lock = (folder / LOCK).open("ab")  # to be written, without which NFS gives no lock
            if _is_locked(lock) and (folder / LOCK).exists():
                return folder, lock
            lock.close()
    return None


def _new_pass(directory: Path) -> tuple[Path, IO[bytes]]:
    folder = directory / f"parts-{uuid.uuid4().hex[:8]}"
    _hidden(folder).mkdir(parents=True)
    lock = (_hidden(folder) / LOCK).open("ab")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return _hidden(folder).rename(folder), lock


def _is_locked(lock: IO[bytes]) -> bool:
    """Whether this process could lock the file now; the kernel releases it when the process dies."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}")
