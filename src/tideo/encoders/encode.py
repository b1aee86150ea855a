"""Tideos or videos → features in a store that is read at random, at any scale.

    OUT/store.json, OUT/shard-*   a FeatureStore, its rows by key
    OUT/items.jsonl               each item's id and the key of its rows

A key hashes all that the rows depend on: the captions, or the video's content and how its frames are sampled. So no
item is encoded twice, and a changed video gets new rows. A killed run continues with the items that are missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from tideo.console import progress
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import (
    frame_features,
    lacks_captions,
    open_features,
    read_features,
    sampled,
    tideo_features,
)
from tideo.loading import Loading
from tideo.parallel import spread, threads
from tideo.store.features import FeatureStore
from tideo.store.files import content_key, key_of
from tideo.store.records import read_records, write_records
from tideo.types import Features, Frames, Modality, Tideo, UserError, Video, VideoError
from tideo.video.samplers import sample_frames

ITEMS_FILE = "items.jsonl"
SHARD = 256  # Tideos of a shard, or frames of videos: the most that a kill loses
Item = TypeVar("Item", Tideo, Video)
# The features of each item in order, or an error in place of them
FeaturesOf = Callable[[list[Item], DualEncoder], Iterator[Features | VideoError]]


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
    ray: str | None = None,
) -> Encoded:
    """The features of `tideo_features`, a shard at a time.

    `loading`: of an encoder that is given by its name. With `ray` the shards are spread over a cluster
    (parallel.spread), whose machines must see `out` and find the encoder by its name. Raises UserError for a store
    of another encoder, and for an id that occurs twice.
    """
    failed = {t.id: "a frame without a caption" for t in tideos if lacks_captions(t)}
    keys = {t.id: tideo_key(t, num_frames=num_frames) for t in tideos if t.id not in failed}
    features_of = partial(tideo_features, num_frames=num_frames)
    return _encoded(
        tideos,
        keys,
        failed,
        features_of,
        encoder=encoder,
        loading=loading,
        out=out,
        modality="text",
        size=SHARD,
        ray=ray,
    )


def encode_videos(
    videos: Sequence[Video],
    *,
    encoder: str | DualEncoder,
    out: str | Path,
    num_frames: int = 10,
    sampler: str = "middle",
    loading: Loading | None = None,
    ray: str | None = None,
) -> Encoded:
    """The `frame_features` of sampled frames, with their times. The next videos are decoded while one is encoded.

    A video that gives no frame is left out and listed in `failed`. `ray` and errors are those of `encode_tideos`.
    """
    contents = {v.id: content_key(v.path) for v in videos}
    failed = {name: "there is no such file" for name, key in contents.items() if key is None}
    keys = {
        v.id: key_of([contents[v.id], v.start_s, v.end_s, num_frames, sampler])
        for v in videos
        if v.id not in failed
    }
    features_of = partial(_video_features, num_frames=num_frames, sampler=sampler)
    size = max(1, SHARD // num_frames)
    return _encoded(
        videos,
        keys,
        failed,
        features_of,
        encoder=encoder,
        loading=loading,
        out=out,
        modality="image",
        size=size,
        ray=ray,
    )


def _encoded(
    items: Sequence[Item],
    keys: Mapping[str, str],
    failed: dict[str, str],
    features_of: FeaturesOf[Item],
    *,
    encoder: str | DualEncoder,
    out: str | Path,
    modality: Modality,
    size: int,
    ray: str | None,
    loading: Loading | None,
) -> Encoded:
    """Encode the missing items, `size` at a time."""
    store = open_features(out, _loaded(encoder, loading), modality=modality)
    missing = _missing(items, keys, store=store, out=Path(out))
    parts = [dict(list(missing.items())[i : i + size]) for i in range(0, len(missing), size)]
    work = partial(
        _encode_part,
        features_of=features_of,
        encoder=encoder,
        loading=loading,
        out=str(out),
        modality=modality,
    )
    unreadable: dict[str, str] = {}  # key → reason
    with progress() as bar:
        task = bar.add_task("encoding", total=len(keys), completed=len(keys) - len(missing))
        for part, reasons in spread(work, parts, ray=ray):
            unreadable |= reasons
            bar.advance(task, len(part))
    failed |= {name: unreadable[key] for name, key in keys.items() if key in unreadable}
    return Encoded(num=len(items), encoded=len(missing) - len(unreadable), failed=failed)


@lru_cache(maxsize=1)
def _by_name(name: str, loading: Loading | None) -> DualEncoder:
    return load_encoder(name, loading=loading)


def _loaded(encoder: str | DualEncoder, loading: Loading | None) -> DualEncoder:
    return _by_name(encoder, loading) if isinstance(encoder, str) else encoder


def _encode_part(
    part: dict[str, Item],
    *,
    features_of: FeaturesOf[Item],
    encoder: str | DualEncoder,
    loading: Loading | None,
    out: str,
    modality: Modality,
) -> dict[str, str]:
    """Write a shard of items, by key, and return the reasons of failures."""
    loaded = _loaded(encoder, loading)
    store = open_features(out, loaded, modality=modality)
    # A worker that died after writing leaves a part that is there already.
    part = {key: item for key, item in part.items() if key not in store}
    found = dict(zip(part, features_of(list(part.values()), loaded), strict=True))
    made = {key: features for key, features in found.items() if isinstance(features, Features)}
    times = {key: features.pts_s_T for key, features in made.items() if features.pts_s_T is not None}
    store.write({key: features.values_TD for key, features in made.items()}, pts_s=times or None)
    return {key: str(error) for key, error in found.items() if isinstance(error, VideoError)}


def _video_features(
    videos: Sequence[Video], encoder: DualEncoder, *, num_frames: int, sampler: str
) -> Iterator[Features | VideoError]:
    def decode(video: Video) -> Frames | VideoError:
        try:
            return sample_frames(video, num_frames, sampler=sampler)
        except VideoError as error:
            return error

    for frames in _ahead(decode, videos):
        yield frames if isinstance(frames, VideoError) else frame_features(frames, encoder)


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


def _missing(
    items: Sequence[Item], keys: Mapping[str, str], *, store: FeatureStore, out: Path
) -> dict[str, Item]:
    """Write each item's key, and return by key the items that the store lacks; of equal items, the first."""
    counts = Counter(item.id for item in items)
    if len(counts) < len(items):
        raise UserError(f"the id {counts.most_common(1)[0][0]!r} occurs twice; give each its own")
    write_records(out / ITEMS_FILE, ({"id": name, "key": key} for name, key in keys.items()))
    missing: dict[str, Item] = {}
    for item in items:
        key = keys.get(item.id)
        if key is not None and key not in store:
            missing.setdefault(key, item)
    return missing


def _ahead(
    work: Callable[[Video], Frames | VideoError], items: Sequence[Video]
) -> Iterator[Frames | VideoError]:
    """Each item's result, in order. Two threads work on up to four items ahead."""
    with threads(2) as pool:
        begun = [pool.submit(work, item) for item in items[:4]]
        for n in range(len(items)):
            yield begun.pop(0).result()
            if n + 4 < len(items):
                begun.append(pool.submit(work, items[n + 4]))
