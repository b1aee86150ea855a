"""The features of a training's Tideos: encoded once, by all processes together, and read from disk.

Each process encodes its share on its own device into one store; then all of them read it through memory maps. So
neither the time nor the host's memory grows with the number of processes: a million captions of 768 numbers would be
3 GB for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from tideo.console import progress
from tideo.encoders.dual import DualEncoder
from tideo.encoders.encode import TIDEOS, tideo_key
from tideo.encoders.features import lacks_captions, read_features, tideo_features
from tideo.processes import Processes
from tideo.store.features import FeatureStore
from tideo.types import Features, Tideo, UserError

Unit = TypeVar("Unit")


class StoredFeatures(Sequence[Features]):
    """The features of many Tideos in the order of their keys. Each is read from the disk when it is asked for."""

    def __init__(self, store: FeatureStore, keys: Sequence[str]) -> None:
        self.store, self.keys = store, keys

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Features: ...
    @overload
    def __getitem__(self, index: slice) -> StoredFeatures: ...
    def __getitem__(self, index: int | slice) -> Features | StoredFeatures:
        if isinstance(index, slice):
            return StoredFeatures(self.store, self.keys[index])
        return read_features(self.store, self.keys[index])

    def num_rows(self) -> list[int]:
        """The number of rows of each, without reading them."""
        return [len(self.store[key]) for key in self.keys]


def fill_store(
    folder: Path,
    units: Mapping[str, Unit],
    rows_of: Callable[[Sequence[Unit]], Iterable[np.ndarray]],
    *,
    dim: int,
    about: Mapping[str, Any],
    shard: int,
    what: str,
) -> FeatureStore:
    """Write the rows [T, D] of each unit that the store lacks, `shard` units at a time, shared out over the processes.

    Every process must call this with the same units. A killed run goes on with what is missing.
    """
    processes = Processes.launched()
    store = FeatureStore(folder, dim=dim, about=about)
    missing = [name for name in units if name not in store]
    processes.wait()  # no process writes before all have seen the same
    shards = [missing[i : i + shard] for i in range(0, len(missing), shard)][processes.rank :: processes.size]
    with progress() as bar:
        task = bar.add_task(what, total=sum(map(len, shards)), visible=bool(shards) and processes.first)
        for names in shards:
            store.write(dict(zip(names, rows_of([units[n] for n in names]), strict=True)))
            bar.advance(task, len(names))
    processes.wait()
    return store if processes.size == 1 else FeatureStore(folder)


def encoded_tideos(
    tideos: Sequence[Tideo], encoder: DualEncoder, *, num_frames: int, folder: Path
) -> StoredFeatures:
    """The features of `tideo encode`, from `folder` or made there.

    Raises UserError for a Tideo without frames or a frame without a caption.
    """
    for tideo in tideos:
        if lacks_captions(tideo):
            raise UserError(
                f"tideo {tideo.id}: every Tideo needs a frame, and every frame a caption; remove or repair it"
            )
    keys = [tideo_key(tideo, num_frames=num_frames) for tideo in tideos]
    store = fill_store(
        folder,
        dict(zip(keys, tideos, strict=True)),
        lambda shard: (f.values_TD for f in tideo_features(shard, encoder, num_frames=num_frames)),
        dim=encoder.dim,
        about={"encoder": encoder.id, "modality": "text"},
        shard=TIDEOS,
        what="encoding captions",
    )
    return StoredFeatures(store, keys)


def features_in(
    folder: str | Path, tideos: Sequence[Tideo], *, encoder: DualEncoder, num_frames: int
) -> StoredFeatures:
    """The features of these Tideos from a folder that `tideo encode` filled.

    Raises UserError for a folder of another encoder, and for a Tideo that is missing or was encoded before a change.
    """
    store = FeatureStore(folder)
    if store.about.get("encoder") != encoder.id:
        raise UserError(f"{folder} holds features of encoder {store.about.get('encoder')}, not {encoder.id}")
    keys = [tideo_key(tideo, num_frames=num_frames) for tideo in tideos]
    for tideo, key in zip(tideos, keys, strict=True):
        if key not in store:
            raise UserError(
                f"{folder} does not hold Tideo {tideo.id} with up to {num_frames} frames: run tideo encode again"
            )
    return StoredFeatures(store, keys)
