"""Tideos or videos → features in a store that is read at random, at any scale.

    OUT/store.json, OUT/shard-*   a FeatureStore, its rows by key
    OUT/items.jsonl               each item's id and the key of its rows; of a video also its path and content's key
    OUT/encoder.json              the name by which the encoder was loaded, and its id
    OUT/dead-letters.jsonl and OUT/manifest.parquet: see encoders.commits

A key hashes all that the rows depend on: the captions, or the video's content and how its frames are sampled. So no
item is encoded twice, and a changed video gets new rows. A killed run continues with the items that are missing, in
this process or on a cluster, whichever began it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from tideo.cluster import Cluster, connected, mapped
from tideo.encoders.commits import DeadLetter, committed, read_letters, write_letters, write_manifest
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import (
    frames_features,
    lacks_captions,
    open_features,
    read_features,
    sampled,
    text_store,
    texts_features,
    tideo_features,
)
from tideo.encoders.pool_pass import make_pools, pool_key
from tideo.encoders.sources import video_key
from tideo.encoders.stages import Stages
from tideo.loading import Loading
from tideo.parallel import Failure, attempted, threads
from tideo.store.features import FeatureStore
from tideo.store.files import atomic_write_text, key_of
from tideo.store.records import read_records, write_records
from tideo.store.remote import content_of, is_url, local_copy
from tideo.types import Features, Frames, Modality, Tideo, UserError, Video, VideoError
from tideo.video.pool import PoolSettings
from tideo.video.samplers import sample_frames

ITEMS_FILE, ENCODER_FILE = "items.jsonl", "encoder.json"
TIDEOS = 256  # or texts, that are encoded together
FRAMES = 64  # of videos that are encoded together
KEY_THREADS = 8  # that read what identifies a video
Item = TypeVar("Item", Tideo, Video)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The result of `encode_…`: `encoded` of `num` items were encoded now, `failed` maps an id to its reason."""

    num: int
    encoded: int
    failed: dict[str, str] = field(default_factory=dict)


def encode_tideos(
    tideos: Sequence[Tideo],
    *,
    encoder: str | DualEncoder,
    out: str | Path,
    num_frames: int = 10,
    loading: Loading | None = None,
    cluster: Cluster | None = None,
    retry_failed: bool = False,
) -> Encoded:
    """The features of `tideo_features`, in shards.

    `loading`: of an encoder that is given by its name. With a `cluster` its machines encode, and must find the encoder
    by its name; this process alone writes. What failed before is tried again if it has changed, or with
    `retry_failed`. Raises UserError for a store of another encoder, and for an id that occurs twice.
    """
    keys = {t.id: tideo_key(t, num_frames=num_frames) for t in tideos if not lacks_captions(t)}
    bare = Failure(reason="a frame without a caption", attempts=1)
    failed = {t.id: bare for t in tideos if t.id not in keys}
    stages = Stages(decode=None, encode=partial(tideo_features, num_frames=num_frames), size=TIDEOS)
    return _encoded(
        tideos, keys, failed, partial(committed, stages=stages), encoder=encoder, loading=loading, out=out,
        modality="text", cluster=cluster, retry_failed=retry_failed,
    )  # fmt: skip


def encode_videos(
    videos: Sequence[Video],
    *,
    encoder: str | DualEncoder,
    out: str | Path,
    num_frames: int = 10,
    sampler: str = "middle",
    pool: PoolSettings | None = None,
    loading: Loading | None = None,
    cluster: Cluster | None = None,
    retry_failed: bool = False,
) -> Encoded:
    """The `frame_features` of sampled frames, with their times. The next videos are decoded while some are encoded.

    With `pool` the frames are those of each video's pool instead (encoders/pools.py), which selectors choose from.
    A path may be a URL (store.remote). A video that gives no frame is left out and listed in `failed`, after three
    attempts. On a `cluster` each decoder is a process of its own, so a file that crashes it is one that failed. The
    rest is as for `encode_tideos`.
    """
    stages = Stages(
        decode=partial(_frames, num=num_frames, sampler=sampler),
        encode=frames_features,
        size=max(1, FRAMES // num_frames),
    )
    work = partial(committed, stages=stages) if pool is None else partial(make_pools, settings=pool)
    with connected(cluster):
        keys: dict[str, str] = {}
        failed: dict[str, Failure] = {}
        contents = _contents({video.path for video in videos}, cluster=cluster)
        for video in videos:
            content = contents[video.path]
            if isinstance(content, Failure):
                failed[video.id] = content
            else:
                keys[video.id] = (
                    pool_key(content, video, pool)
                    if pool is not None
                    else video_key(content, video, num_frames=num_frames, sampler=sampler)
                )
        return _encoded(
            videos, keys, failed, work, encoder=encoder, loading=loading, out=out, modality="image", cluster=cluster,
            retry_failed=retry_failed, contents=contents,
        )  # fmt: skip


def _contents(paths: Collection[str], *, cluster: Cluster | None) -> Mapping[str, str | Failure]:
    """What identifies each file's content, or why it cannot be read."""
    if cluster is not None:
        return mapped({path: path for path in paths}, content_of, cluster=cluster)
    with threads(KEY_THREADS) as pool:
        return dict(zip(paths, pool.map(partial(attempted, content_of), paths), strict=True))


def encode_texts(
    texts: Sequence[str],
    *,
    encoder: DualEncoder,
    loading: Loading | None,
    cache_dir: str | Path,
    cluster: Cluster,
) -> None:
    """Fill the cache of `text_vectors` on a cluster, whose machines load the encoder by its name.

    Raises UserError for a text that cannot be encoded.
    """
    store = text_store(cache_dir, encoder)
    units = {key: text for text in texts if (key := key_of(text)) not in store}
    stages = Stages(decode=None, encode=texts_features, size=TIDEOS)
    load = partial(_loaded, getattr(encoder, "name", encoder), loading)  # one of another package has none
    failed = committed(units, store, stages=stages, load=load, cluster=cluster)
    if failed:
        key, failure = next(iter(failed.items()))
        raise UserError(f"the text {units[key][:80]!r} cannot be encoded: {failure.reason}")


def _frames(video: Video, *, num: int, sampler: str) -> Frames:
    with local_copy(video.path) as path:
        try:
            return sample_frames(replace(video, path=path), num, sampler=sampler)
        except VideoError as error:
            raise VideoError(str(error).replace(path, video.path)) from error


def _encoded(
    items: Sequence[Item],
    keys: Mapping[str, str],
    failed: dict[str, Failure],
    work: Callable[..., dict[str, Failure]],
    *,
    encoder: str | DualEncoder,
    loading: Loading | None,
    out: str | Path,
    modality: Modality,
    cluster: Cluster | None,
    retry_failed: bool,
    contents: Mapping[str, str | Failure] | None = None,
) -> Encoded:
    """Encode the missing items by `work`, as `committed` or `make_pools` with its settings.

    `contents`: what identifies the content of the file at each path, for videos.
    """
    here = loading if cluster is None else Loading(device="cpu")  # whose id and width alone are needed
    loaded = _loaded(encoder, here)
    store = open_features(out, loaded, modality=modality)
    missing = _missing(items, keys, store=store, out=Path(out), contents=contents or {})
    _write_encoder(
        Path(out), encoder if isinstance(encoder, str) else getattr(encoder, "name", None), loaded.id
    )
    paths = {item.id: getattr(item, "path", None) for item in items}
    before = {letter.key: letter for letter in read_letters(out) if letter.key in missing}
    known = {key: Failure(reason=letter.reason, attempts=letter.attempts) for key, letter in before.items()}

    def report(found: Mapping[str, Failure]) -> dict[str, Failure]:
        """Write the dead letters and return all failures by id, those of now with the attempts of before."""
        new = {
            key: replace(failure, attempts=failure.attempts + (known[key].attempts if key in known else 0))
            for key, failure in found.items()
        }
        by_key = {key: failure for key, failure in known.items() if key not in store} | new
        all_failed = failed | {name: by_key[key] for name, key in keys.items() if key in by_key}
        letters = [
            DeadLetter(id=name, path=paths[name], key=keys.get(name), reason=f.reason, attempts=f.attempts)
            for name, f in all_failed.items()
        ]
        write_letters(out, letters)
        return all_failed

    units = {key: item for key, item in missing.items() if retry_failed or key not in known}
    load = partial(_loaded, encoder, loading)
    found = work(units, store, load=load, cluster=cluster, report=report)
    all_failed = report(found)
    write_manifest(out, paths, keys, store)
    return Encoded(
        num=len(items),
        encoded=len(units) - len(found),
        failed={name: failure.reason for name, failure in all_failed.items()},
    )


@lru_cache(maxsize=1)
def _by_name(name: str, loading: Loading | None) -> DualEncoder:
    return load_encoder(name, loading=loading)


def _loaded(encoder: str | DualEncoder, loading: Loading | None) -> DualEncoder:
    return _by_name(encoder, loading) if isinstance(encoder, str) else encoder


class EncodedFolder(Mapping[str, Features]):
    """The features that `encode_…` wrote, by the items' ids. Raises UserError for a folder without features."""

    def __init__(self, folder: str | Path) -> None:
        self.store = FeatureStore(folder)
        self.keys_of: dict[str, str] = {r["id"]: r["key"] for r in read_records(Path(folder) / ITEMS_FILE)}

    def __getitem__(self, name: str) -> Features:
        if name not in self.keys_of:
            raise KeyError(name)
        return read_features(self.store, self.keys_of[name])

    def __iter__(self) -> Iterator[str]:
        return (name for name, key in self.keys_of.items() if key in self.store)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def tideo_key(tideo: Tideo, *, num_frames: int) -> str:
    """The key of a Tideo's rows: a hash of the captions of its frames."""
    return key_of([[f.captions for f in sampled(tideo.frames, num_frames)], num_frames])


def _write_encoder(out: Path, name: str | None, encoder_id: str) -> None:
    """For who encodes texts to compare. An encoder that was given without a name leaves the file as it is."""
    if name is not None:
        place = os.path.abspath(name) if os.path.isdir(name) else name
        atomic_write_text(out / ENCODER_FILE, json.dumps({"name": place, "id": encoder_id}))


def _missing(
    items: Sequence[Item],
    keys: Mapping[str, str],
    *,
    store: FeatureStore,
    out: Path,
    contents: Mapping[str, str | Failure],
) -> dict[str, Item]:
    """Write each item's key, and return by key the items that the store lacks; of equal items, the first."""
    counts = Counter(item.id for item in items)
    if len(counts) < len(items):
        raise UserError(f"the id {counts.most_common(1)[0][0]!r} occurs twice; give each its own")

    def whose(item: Tideo | Video) -> dict[str, Any]:
        if not isinstance(item, Video):
            return {}
        path = item.path if is_url(item.path) else os.path.abspath(item.path)
        return {"path": path, "content": contents[item.path]}

    records = ({"id": item.id, "key": keys[item.id], **whose(item)} for item in items if item.id in keys)
    write_records(out / ITEMS_FILE, records)
    missing: dict[str, Item] = {}
    for item in items:
        key = keys.get(item.id)
        if key is not None and key not in store:
            missing.setdefault(key, item)
    return missing
