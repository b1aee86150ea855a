"""What a search over a million frames costs: exact, plain numpy, and through an index with its recall.

    python speed/search.py [--frames 1000000] [--width 512] [--texts 16]

The rows are random: a video of 1,000 frames has 50 scenes of 20 frames, each scene lies near one of as many random
topics as there are videos, and its frames near the scene. A text lies near a topic. With `--alike 0` scenes share
nothing: then nine of ten best moments are there by chance alone, and an index, which finds what lies together, misses
most of them. For the exact search that makes no difference. Each figure is from a process of its own, on the threads
that OMP_NUM_THREADS or else the machine allows, with the files in the page cache; a search is timed from the open store
to the ten moments. Memory is the most that is the process's own, beyond what it had before; pages of the mapped files
are not in it, as the kernel takes them back. numpy's plain product converts the rows to float32 first, all at once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tideo.search.index import FrameIndex
from tideo.search.library import Library
from tideo.search.moments import best_moments
from tideo.store.features import FeatureStore
from tideo.store.records import write_records

FRAMES, SCENE = 1000, 20  # of a video, of a scene
IN_SCENE, OF_TEXT = 0.9, 0.35  # cosines: of a frame and its scene, of a text and its topic
SHARD_VIDEOS = 4


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def near(rows: np.ndarray, cosine: float, rng: np.random.Generator) -> np.ndarray:
    """Random unit rows of that cosine to the rows given, as far as random directions are at right angles."""
    others = unit(rng.standard_normal(rows.shape, dtype=np.float32))
    return unit(cosine * rows + (1 - cosine**2) ** 0.5 * others)


def make(folder: Path, *, frames: int, width: int, texts: int, alike: float) -> None:
    """The library, and texts.npy [Q, D]."""
    rng = np.random.default_rng(0)
    store = FeatureStore(folder, dim=width, about={"encoder": "random", "modality": "image"})
    names = [f"video{n:05}" for n in range(frames // FRAMES)]
    times = np.arange(FRAMES) + 0.5
    topics = unit(rng.standard_normal((len(names), width), dtype=np.float32))
    for start in range(0, len(names), SHARD_VIDEOS):
        rows = {}
        for name in names[start : start + SHARD_VIDEOS]:
            scenes = near(topics[rng.integers(len(topics), size=FRAMES // SCENE)], alike, rng)
            rows[name] = near(np.repeat(scenes, SCENE, axis=0), IN_SCENE, rng)
        store.write(rows, pts_s=dict.fromkeys(rows, times))
    write_records(folder / "items.jsonl", ({"id": name, "key": name} for name in names))
    chosen = topics[rng.integers(len(topics), size=texts)]
    np.save(folder / "texts.npy", near(chosen, OF_TEXT, rng).astype(np.float32))


# ---------------------------------------------------------------- measured, each in a process of its own


def own_mib() -> float:
    """The process's own memory; files that are mapped are not in it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) / 1024


def measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the work returns, its seconds, and the most memory beyond that of before."""
    before = most = own_mib()
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, own_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    return result, seconds, max(most, own_mib()) - before


def exact(library: Library, text_D: np.ndarray) -> Any:
    return best_moments(library.items, library.scores(text_D[None])[0], num=10)


def plain(library: Library, text_D: np.ndarray) -> Any:
    scores = np.concatenate([values.astype(np.float32) @ text_D for _, values in library.store.shards()])
    return np.argsort(-scores)[:10]


def at_once(library: Library, text_D: np.ndarray) -> Any:
    rows = np.concatenate([values for _, values in library.store.shards()]).astype(np.float32)
    return np.argsort(-(rows @ text_D))[:10]


def one(folder: Path, way: str) -> dict[str, float]:
    library, texts = Library(folder), np.load(folder / "texts.npy")
    if way == "index":
        index, build_s, build_mib = measured(lambda: FrameIndex(library, lambda _: texts))
        ways = [measured(lambda text=text: index.search(text, num=10)) for text in texts]
        size = index.path.stat().st_size / 2**20
        return {
            "build_s": build_s, "build_mib": build_mib, "file_mib": size, "recall": index.about["recall"],
            "seconds": float(np.median([seconds for _, seconds, _ in ways])), "mib": max(m for *_, m in ways),
        }  # fmt: skip
    work = {"exact": exact, "numpy": plain, "numpy at once": at_once}[way]
    work(library, texts[0])  # the files are in the page cache after it
    ways = [measured(lambda text=text: work(library, text)) for text in texts[:3]]
    return {"seconds": min(seconds for _, seconds, _ in ways), "mib": max(m for *_, m in ways)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--alike", type=float, default=0.8, help="cosine of a scene and its topic")
    parser.add_argument("--no-index", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(Path(args.one[0]), args.one[1])))
        return
    with tempfile.TemporaryDirectory() as place:
        make(Path(place), frames=args.frames, width=args.width, texts=args.texts, alike=args.alike)
        print(f"{args.frames:,} frames, width {args.width}, {torch.get_num_threads()} threads")
        print(f"{'':16} {'seconds':>8} {'own MiB':>8}")
        ways = [
            "exact",
            "numpy",
            "numpy at once",
            *(["index"] if find_spec("faiss") and not args.no_index else []),
        ]
        for way in ways:
            command = [sys.executable, __file__, "--one", place, way]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result = json.loads(done.stdout)
            print(f"{way:16} {result['seconds']:8.3f} {result['mib']:8.0f}", flush=True)
        if "index" in ways:
            print(
                f"the index: recall@10 {result['recall']:.3f} over {args.texts} texts, built in "
                f"{result['build_s']:.0f} s with {result['build_mib']:.0f} MiB, a file of {result['file_mib']:.0f} MiB"
            )


if __name__ == "__main__":
    main()
