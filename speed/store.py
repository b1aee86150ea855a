"""Random reads of encoded items: our store of mapped shards against a pickle file for each video (the published way).

    OMP_NUM_THREADS=1 python speed/store.py [--items 20000] [--reads 20000] [--repeats 3]

Both hold the same float16 vectors of ten frames, width 768. `in hand`: the array is there, of the store's as a view of
the file whose bytes are not yet touched; `in a batch`: also copied into one, as a training does, which costs both the
same. The batches must agree. Reads a CPU second, the best of the repeats in turns; both have their files in the page
cache.
"""

from __future__ import annotations

import argparse
import pickle
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tideo.store.features import FeatureStore
from tideo.store.files import key_of

FRAMES, WIDTH, SHARD, BATCH = 10, 768, 1000, 64


def fill(folder: Path, *, items: int) -> list[str]:
    """Write both; returns the keys."""
    rng = np.random.default_rng(0)
    names = [key_of(n) for n in range(items)]
    store = FeatureStore(folder / "store", dim=WIDTH, about={"encoder": "random"})
    (folder / "pickles").mkdir()
    for start in range(0, items, SHARD):
        rows = {
            name: rng.normal(size=(FRAMES, WIDTH)).astype(np.float16) for name in names[start : start + SHARD]
        }
        store.write(rows)
        for name, values in rows.items():
            (folder / "pickles" / f"{name}.pkl").write_bytes(pickle.dumps(values))
    return names


def in_hand(read: Callable[[str], np.ndarray], names: list[str]) -> float:
    """Reads a CPU second."""
    started_s = time.process_time()
    for name in names:
        read(name)
    return len(names) / (time.process_time() - started_s)


def in_a_batch(read: Callable[[str], np.ndarray], names: list[str]) -> tuple[float, np.ndarray]:
    """Reads a CPU second, and the last batch."""
    batch = np.empty((BATCH, FRAMES, WIDTH), dtype=np.float16)
    started_s = time.process_time()
    for place, name in enumerate(names):
        batch[place % BATCH] = read(name)
    return len(names) / (time.process_time() - started_s), batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = fill(folder, items=args.items)
        asked = random.Random(0).choices(names, k=args.reads)
        store = FeatureStore(folder / "store")

        def pickled(name: str) -> np.ndarray:
            with (folder / "pickles" / f"{name}.pkl").open("rb") as file:
                values: np.ndarray = pickle.load(file)  # our own file, written above
                return values

        readers = {"pickle": pickled, "store": store.__getitem__}
        best = {(name, how): 0.0 for name in readers for how in ("in hand", "in a batch")}
        for _ in range(args.repeats):
            batches = []
            for name, read in readers.items():
                rate, batch = in_a_batch(read, asked)
                batches.append(batch)
                best[name, "in a batch"] = max(best[name, "in a batch"], rate)
                best[name, "in hand"] = max(best[name, "in hand"], in_hand(read, asked))
            assert np.array_equal(*batches)
    print(f"{'reads a CPU second':20} {'pickle':>10} {'store':>10} {'ratio':>7}")
    for how in ("in hand", "in a batch"):
        pickle_rate, store_rate = best["pickle", how], best["store", how]
        print(f"{how:20} {pickle_rate:10,.0f} {store_rate:10,.0f} {store_rate / pickle_rate:7.1f}")


if __name__ == "__main__":
    main()
