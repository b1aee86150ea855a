"""Many short videos into features: the stages on a local Ray cluster against plain processes on the same cores.

    OMP_NUM_THREADS=1 python speed/streams.py [--clips 1000] [--frames 2] [--encoder dollhouse-clip]
                                              [--ways plain,threads,ray] [--kill 0]

Clips of 8 to 12 frames of 64 x 64 pixels, each of its own content. `plain` is a pool of processes that decode and
encode clip by clip, without a store, isolation, retries or continuation: what the work itself costs. `threads` is
`tideo encode` and `ray` is `tideo encode --ray local`, with their starts. `--kill N` ends N of the cluster's workers,
decoders and encoders in turn, while it runs. The rows are counted, and the memory of the driver and of the object store
is shown at every tenth of the run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import signal
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import ray

from tideo.cluster import Cluster
from tideo.encoders.dual import load_encoder
from tideo.encoders.encode import EncodedFolder, encode_videos
from tideo.encoders.sources import videos_in
from tideo.types import Video
from tideo.video.samplers import sample_frames


def make_clips(folder: Path, *, num: int) -> None:
    """Moving noise, from a seed of its own."""
    folder.mkdir()
    for k in range(num):
        rng = np.random.default_rng(k)
        tile = rng.integers(0, 255, (8, 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        with av.open(str(folder / f"{k:06d}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=4)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            for t in range(8 + k % 5):
                frame = av.VideoFrame.from_ndarray(np.roll(tile, 5 * t, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def begin(name: str) -> None:
    global encoder
    encoder = load_encoder(name)


def rows_of(video: Video, *, num: int) -> int:
    return len(encoder.encode_images(sample_frames(video, num).rgb_THWC))


def plain(videos: list[Video], *, frames: int, encoder: str) -> int:
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), begin, (encoder,)) as pool:
        return sum(pool.imap_unordered(partial(rows_of, num=frames), videos, chunksize=32))


def processes(kind: str) -> list[int]:
    """The pids of a pool's workers; Ray writes their class and what they do into their command lines."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if place.read_text().startswith(f"ray::MapWorker(MapBatches(_{kind.title()}))"):
                found.append(int(place.parent.name))
    return found


def driver_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def object_store_mb() -> float:
    """What the object store of this process's cluster takes of the shared memory."""
    files = [
        file
        for place in Path("/proc").glob("[0-9]*/stat")
        if " (raylet) " in (stat := place.read_text()) and int(stat.split()[3]) == os.getpid()
        for file in (place.parent / "fd").iterdir()
        if "plasma" in os.readlink(file)
    ]
    return sum(os.stat(file).st_blocks * 512 for file in files) / 1e6


def indices(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in out.glob("shard-*.json")]


def watch(out: Path, *, num: int, kill: int, ended: threading.Event) -> None:
    """Print the memory at every tenth, and end `kill` workers, of the kinds in turn."""
    tenth = killed = 0
    while not ended.wait(0.5):
        written = sum(len(index["ids"]) for index in indices(out))
        if killed < kill and written > num * (killed + 1) / (kill + 2):
            kind = ("decoder", "encoder")[killed % 2]
            if pids := processes(kind):
                os.kill(pids[0], signal.SIGKILL)
                killed += 1
                print(f"{written:8,} written: killed the {kind} {pids[0]}", flush=True)
        if written >= tenth * num / 10 and ray.is_initialized():
            used_mb = object_store_mb()
            print(
                f"{written:8,} written: driver {driver_mb():6.0f} MB, object store {used_mb:6.1f} MB",
                flush=True,
            )
            tenth = 10 * written // num + 1


def on_ray(videos: list[Video], out: Path, *, frames: int, encoder: str, kill: int) -> int:
    ended = threading.Event()
    watcher = threading.Thread(
        target=watch, args=(out,), kwargs={"num": len(videos), "kill": kill, "ended": ended}
    )
    watcher.start()
    cluster = Cluster(address="local")
    done = encode_videos(videos, encoder=encoder, out=out, num_frames=frames, cluster=cluster)
    ended.set()
    watcher.join()
    assert done.failed == {}
    return count(out, videos)


def in_threads(videos: list[Video], out: Path, *, frames: int, encoder: str) -> int:
    encode_videos(videos, encoder=encoder, out=out, num_frames=frames)
    return count(out, videos)


def count(out: Path, videos: list[Video]) -> int:
    """The rows, after a check that each item is there once."""
    written = [key for index in indices(out) for key in index["ids"]]
    there = EncodedFolder(out)
    assert len(written) == len(set(written)) == len(videos)
    assert sorted(there) == sorted(video.id for video in videos)
    return sum(sum(index["num_rows"]) for index in indices(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--encoder", default="dollhouse-clip")
    parser.add_argument("--ways", default="plain,threads,ray")
    parser.add_argument("--kill", type=int, default=0)
    args = parser.parse_args()
    # By default Ray's workers give way to all other processes.
    os.environ.setdefault("RAY_worker_niceness", "0")
    versions = {"Python": platform.python_version(), "Ray": ray.__version__, "PyAV": av.__version__}
    print(
        ", ".join([*(f"{name} {version}" for name, version in versions.items()), f"{os.cpu_count()} cores"])
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_clips(folder / "clips", num=args.clips)
        videos = videos_in(folder / "clips")
        how = {"frames": args.frames, "encoder": args.encoder}
        ways = {
            "plain": lambda: plain(videos, **how),
            "threads": lambda: in_threads(videos, folder / "threads", **how),
            "ray": lambda: on_ray(videos, folder / "ray", kill=args.kill, **how),
        }
        rates, rows = {}, {}
        for name in args.ways.split(","):
            started_s = time.perf_counter()
            rows[name] = ways[name]()
            rates[name] = len(videos) / (time.perf_counter() - started_s)
    assert len(set(rows.values())) == 1, rows
    print(f"{len(videos):,} clips, {next(iter(rows.values())):,} rows, each item once")
    for name, rate in rates.items():
        print(f"{name:8} {rate:8.1f} clips/s {rate / next(iter(rates.values())):6.2f}")


if __name__ == "__main__":
    main()
