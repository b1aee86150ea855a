"""Tideos or videos → features in a store that is read at random, at any scale.

    OUT/store.json, OUT/shard-*   FeatureStore: rows keyed by what they depend on
    OUT/items.jsonl               each item's id and the key of its rows

A row's key hashes the captions, or the video's content and the times that are looked at, so what is there is never
encoded twice and a changed video never read from old rows. Killed, it goes on with what is missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress

from tideo.encoders.dual import DualEncoder
from tideo.encoders.extract import open_features, read_features, sampled, unit_rows
from tideo.store import FeatureStore, atomic_write_text, content_key, key_of, read_records
from tideo.types import Features, Frames, Tideo, UserError, Video, VideoError
from tideo.video.samplers import sample_frames

log = logging.getLogger(__name__)
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
    tideos: Sequence[Tideo], *, encoder: DualEncoder, out: str | Path, num_frames: int = 10
) -> Encoded:
    """A row a frame: the mean of its captions' vectors, as in `tideo_features`. A shard's captions are encoded once.

    Raises UserError for a store of another encoder, and for an id that occurs twice.
    """

    def rows(shard: Sequence[Tideo]) -> dict[str, np.ndarray]:
        frames = [sampled(tideo.frames, num_frames) for tideo in shard]
        texts = list(dict.fromkeys(c for of in frames for frame in of for c in frame.captions))
        place = {text: row for row, text in enumerate(texts)}
        values_ND = encoder.encode_text(texts)
        return {
            tideo.id: unit_rows(
                np.stack([values_ND[[place[c] for c in frame.captions]].mean(axis=0) for frame in of])
            )
            for tideo, of in zip(shard, frames, strict=True)
        }

    bare = {
        t.id: "a frame without a caption"
        for t in tideos
        if not all(f.captions for f in t.frames) or not t.frames
    }
    keys = {
        t.id: key_of([[f.captions for f in sampled(t.frames, num_frames)], num_frames])
        for t in tideos
        if t.id not in bare
    }
    store = open_features(out, encoder, modality="text")
    missing = _missing(tideos, keys, store=store, out=Path(out))
    with _progress(len(keys), done=len(keys) - len(missing)) as advance:
        for start in range(0, len(missing), SHARD):
            shard = missing[start : start + SHARD]
            store.write({keys[name]: values for name, values in rows(shard).items()})
            advance(len(shard))
    return Encoded(num=len(tideos), encoded=len(missing), failed=bare)


def encode_videos(
    videos: Sequence[Video],
    *,
    encoder: DualEncoder,
    out: str | Path,
    num_frames: int = 10,
    sampler: str = "middle",
    threads: int = 2,
) -> Encoded:
    """As `frame_features` of sampled frames, with their times. The next videos are decoded beside the encoder.

    A video that gives no frame is told and left out. Raises UserError as `encode_tideos` does.
    """
    found = {v.id: content_key(v.path) for v in videos}
    failed = {name: "there is no such file" for name, key in found.items() if key is None}
    keys = {
        v.id: key_of([found[v.id], v.start_s, v.end_s, num_frames, sampler])
        for v in videos
        if v.id not in failed
    }
    store = open_features(out, encoder, modality="image")
    missing = _missing(videos, keys, store=store, out=Path(out))

    def look(video: Video) -> Frames | VideoError:
        try:
            return sample_frames(video, num_frames, sampler=sampler)
        except VideoError as error:
            return error

    waiting: dict[str, Frames] = {}
    done = 0

    def write() -> None:
        sizes = [len(frames) for frames in waiting.values()]
        values_ND = np.concatenate([encoder.encode_images(frames.rgb_THWC) for frames in waiting.values()])
        ends = np.cumsum([0, *sizes]).tolist()
        store.write(
            {keys[n]: values_ND[a:b] for n, a, b in zip(waiting, ends, ends[1:], strict=False)},
            pts_s={keys[n]: frames.pts_s_T for n, frames in waiting.items()},
        )
        waiting.clear()

    with _progress(len(keys), done=len(keys) - len(missing)) as advance:
        for video, frames in zip(missing, _ahead(look, missing, threads=threads), strict=True):
            if isinstance(frames, VideoError):
                failed[video.id] = str(frames)
            else:
                waiting[video.id] = frames
                done += 1
            if sum(map(len, waiting.values())) >= SHARD:
                write()
            advance(1)
        if waiting:
            write()
    return Encoded(num=len(videos), encoded=done, failed=failed)


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


def _missing(items: Sequence[Item], keys: Mapping[str, str], *, store: FeatureStore, out: Path) -> list[Item]:
    """Write which rows are whose, and tell the items whose rows are not there; of equal ones the first."""
    if len({item.id for item in items}) < len(items):
        twice = next(i.id for n, i in enumerate(items) if any(j.id == i.id for j in items[:n]))
        raise UserError(f"the id {twice!r} occurs twice; give each its own")
    named = "".join(json.dumps({"id": name, "key": key}) + "\n" for name, key in keys.items())
    atomic_write_text(out / ITEMS_FILE, named)
    missing: dict[str, Item] = {}
    for item in items:
        key = keys.get(item.id)
        if key is not None and key not in store:
            missing.setdefault(key, item)
    return list(missing.values())


def _ahead(
    work: Callable[[Video], Frames | VideoError], items: Sequence[Video], *, threads: int
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
