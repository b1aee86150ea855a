"""Random reads of encoded items: our store of mapped shards against a pickle file for each video (the published way).

    OMP_NUM_THREADS=1 python benchmarks/store.py [--items 20000] [--reads 20000] [--repeats 3]

Both hold the same float16 vectors of ten frames, width 768. Every read is summed, so that its bytes are touched; the sums must
agree. Reads a CPU second, the best of the repeats in turns; files are in the page cache for both.
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

from tideo.store import FeatureStore, key_of

FRAMES, WIDTH, SHARD = 10, 768, 1000


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


def timed(read: Callable[[str], np.ndarray], names: list[str]) -> tuple[float, float]:
    """Reads a CPU second, and the sum of what was read."""
    started_s, total = time.process_time(), 0.0
    for name in names:
        total += float(read(name)[::3, 0].sum(dtype=np.float64))
    return len(names) / (time.process_time() - started_s), total


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

        best = {"pickle": 0.0, "store": 0.0}
        for _ in range(args.repeats):
            sums = {}
            for name, read in (("pickle", pickled), ("store", store.__getitem__)):
                rate, sums[name] = timed(read, asked)
                best[name] = max(best[name], rate)
            assert sums["pickle"] == sums["store"]
    for name, rate in best.items():
        print(f"{name:8} {rate:12,.0f} reads a CPU second")
    print(f"ratio    {best['store'] / best['pickle']:12.1f}")


if __name__ == "__main__":
    main()
