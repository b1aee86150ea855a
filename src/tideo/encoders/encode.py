"""Tideos or videos → features in a store that is read at random, at any scale.

    OUT/store.json, OUT/shard-*   FeatureStore: rows keyed by what they depend on
    OUT/items.jsonl               each item's id and the key of its rows

A row's key hashes the captions, or the video's content and the times that are looked at, so what is there is never
encoded twice and a changed video never read from old rows. Killed, it goes on with what is missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import open_features, read_features, sampled, unit_rows
from tideo.parallel import spread
from tideo.store.features import FeatureStore
from tideo.store.files import atomic_write_text, content_key, key_of
from tideo.store.records import read_records
from tideo.types import Features, Frames, Modality, Tideo, UserError, Video, VideoError
from tideo.video.samplers import sample_frames

ITEMS_FILE = "items.jsonl"
ENDINGS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")
SHARD = 256  # items; a kill costs at most the encoding of so many
Item = TypeVar("Item", Tideo, Video)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Of `num` items so many were encoded now; `failed`: id → why."""

    num: int
    encoded: int
    failed: dict[str, str] = field(default_factory=dict)


def encode_tideos(
    tideos: Sequence[Tideo],
    *,
    encoder: str | DualEncoder,
    out: str | Path,
    num_frames: int = 10,
    ray: str | None = None,
) -> Encoded:
    """A row a frame: the mean of its captions' vectors, as in `tideo_features`. A shard's captions are encoded once.

    With `ray` the shards are spread over a cluster (scale.spread), whose machines must see `out` and have the encoder
    by its name. Raises UserError for a store of another encoder, and for an id that occurs twice.
    """
    failed = {
        t.id: "a frame without a caption"
        for t in tideos
        if not t.frames or not all(f.captions for f in t.frames)
    }
    keys = {t.id: _tideo_key(t, num_frames=num_frames) for t in tideos if t.id not in failed}
    work = partial(_encode_tideos, encoder=encoder, out=str(out), num_frames=num_frames)
    return _encoded(
        tideos, keys, failed, work, encoder=encoder, out=out, modality="text", size=SHARD, ray=ray
    )


def encode_videos(
    videos: Sequence[Video],
    *,
    encoder: str | DualEncoder,
    out: str | Path,
    num_frames: int = 10,
    sampler: str = "middle",
    ray: str | None = None,
) -> Encoded:
    """As `frame_features` of sampled frames, with their times. The next videos are decoded beside the encoder.

    A video that gives no frame is told and left out. `ray` and errors as for `encode_tideos`.
    """
    found = {v.id: content_key(v.path) for v in videos}
    failed = {name: "there is no such file" for name, key in found.items() if key is None}
    keys = {
        v.id: key_of([found[v.id], v.start_s, v.end_s, num_frames, sampler])
        for v in videos
        if v.id not in failed
    }
    work = partial(_encode_videos, encoder=encoder, out=str(out), num_frames=num_frames, sampler=sampler)
    size = max(1, SHARD // num_frames)
    return _encoded(
        videos, keys, failed, work, encoder=encoder, out=out, modality="image", size=size, ray=ray
    )


def _encoded(
    items: Sequence[Item],
    keys: Mapping[str, str],
    failed: dict[str, str],
    work: Callable[[dict[str, Item]], dict[str, str]],
    *,
    encoder: str | DualEncoder,
    out: str | Path,
    modality: Modality,
    size: int,
    ray: str | None,
) -> Encoded:
    """Have `work` write shards of the items that are missing, by key; it returns those that failed, by key, and why."""
    store = open_features(out, _loaded(encoder), modality=modality)
    missing = _missing(items, keys, store=store, out=Path(out))
    parts = [dict(list(missing.items())[i : i + size]) for i in range(0, len(missing), size)]
    with _progress(len(keys), done=len(keys) - len(missing)) as advance:
        for part, found in spread(work, parts, ray=ray):
            failed |= {missing[key].id: reason for key, reason in found.items()}
            advance(len(part))
    lost = {name for name, key in keys.items() if key in missing and missing[key].id in failed}
    failed |= {name: failed[missing[keys[name]].id] for name in lost}
    gone = sum(1 for item in missing.values() if item.id in failed)
    return Encoded(num=len(items), encoded=len(missing) - gone, failed=failed)


@lru_cache(maxsize=1)
def _by_name(name: str) -> DualEncoder:
    return load_encoder(name)


def _loaded(encoder: str | DualEncoder) -> DualEncoder:
    return _by_name(encoder) if isinstance(encoder, str) else encoder


def _encode_tideos(
    part: dict[str, Tideo], *, encoder: str | DualEncoder, out: str, num_frames: int
) -> dict[str, str]:
    loaded = _loaded(encoder)
    store = open_features(out, loaded, modality="text")
    part = {
        key: tideo for key, tideo in part.items() if key not in store
    }  # of a worker that died after writing
    frames = {key: sampled(tideo.frames, num_frames) for key, tideo in part.items()}
    texts = list(dict.fromkeys(c for of in frames.values() for frame in of for c in frame.captions))
    place = {text: row for row, text in enumerate(texts)}
    values_ND = loaded.encode_text(texts)
    rows = {
        key: unit_rows(np.stack([values_ND[[place[c] for c in frame.captions]].mean(axis=0) for frame in of]))
        for key, of in frames.items()
    }
    store.write(rows)
    return {}


def _encode_videos(
    part: dict[str, Video], *, encoder: str | DualEncoder, out: str, num_frames: int, sampler: str
) -> dict[str, str]:
    loaded, failed = _loaded(encoder), {}
    store = open_features(out, loaded, modality="image")
    part = {key: video for key, video in part.items() if key not in store}
    rows: dict[str, np.ndarray] = {}
    times: dict[str, np.ndarray] = {}

    def look(video: Video) -> Frames | VideoError:
        try:
            return sample_frames(video, num_frames, sampler=sampler)
        except VideoError as error:
            return error

    for key, frames in zip(part, _ahead(look, list(part.values())), strict=True):
        if isinstance(frames, VideoError):
            failed[key] = str(frames)
        else:
            rows[key], times[key] = loaded.encode_images(frames.rgb_THWC), frames.pts_s_T
    store.write(rows, pts_s=times)
    return failed


def videos_in(folder: str | Path) -> list[Video]:
    """The video files below a folder, each by its place there without its ending. Raises UserError for none."""
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not files:
        raise UserError(f"{folder} holds no video: expected files that end with {', '.join(ENDINGS)}")
    return [Video(id=p.relative_to(folder).with_suffix("").as_posix(), path=str(p)) for p in files]


class EncodedFolder(Mapping[str, Features]):
    """What `encode_…` wrote, by the items' ids. Raises UserError where the folder is none."""

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


def encoded(
    folder: str | Path, tideos: Sequence[Tideo], *, encoder: DualEncoder, num_frames: int
) -> list[Features]:
    """The features of these Tideos from a folder that `encode_tideos` filled.

    Raises UserError for another encoder's folder, and for a Tideo that is not there as it is now.
    """
    there = EncodedFolder(folder)
    if there.store.about.get("encoder") != encoder.id:
        raise UserError(
            f"{folder} holds features of encoder {there.store.about.get('encoder')}, not {encoder.id}"
        )
    found = []
    for tideo in tideos:
        key = _tideo_key(tideo, num_frames=num_frames)
        if key not in there.store:
            raise UserError(
                f"{folder} does not hold Tideo {tideo.id} with up to {num_frames} frames: run tideo encode again"
            )
        found.append(read_features(there.store, key))
    return found


def _tideo_key(tideo: Tideo, *, num_frames: int) -> str:
    return key_of([[f.captions for f in sampled(tideo.frames, num_frames)], num_frames])


def _missing(
    items: Sequence[Item], keys: Mapping[str, str], *, store: FeatureStore, out: Path
) -> dict[str, Item]:
    """Write which rows are whose, and tell the items whose rows are not there, by key; of equal ones the first."""
    counts = Counter(item.id for item in items)
    if len(counts) < len(items):
        raise UserError(f"the id {counts.most_common(1)[0][0]!r} occurs twice; give each its own")
    named = "".join(json.dumps({"id": name, "key": key}) + "\n" for name, key in keys.items())
    atomic_write_text(out / ITEMS_FILE, named)
    missing: dict[str, Item] = {}
    for item in items:
        key = keys.get(item.id)
        if key is not None and key not in store:
            missing.setdefault(key, item)
    return missing


def _ahead(
    work: Callable[[Video], Frames | VideoError], items: Sequence[Video], *, threads: int = 2
) -> Iterator[Frames | VideoError]:
    """Each item's result in order, up to twice as many of them begun ahead as there are threads."""
    with ThreadPoolExecutor(threads) as pool:
        begun = [pool.submit(work, item) for item in items[: 2 * threads]]
        for n in range(len(items)):
            yield begun.pop(0).result()
            if n + 2 * threads < len(items):
                begun.append(pool.submit(work, items[n + 2 * threads]))


class _progress:
    """A bar of items; calling it moves it."""

    def __init__(self, num: int, *, done: int) -> None:
        self.bar = Progress(console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("encoding", total=num, completed=done)

    def __enter__(self) -> Callable[[int], None]:
        self.bar.start()
        return lambda num: self.bar.advance(self.task, num)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
