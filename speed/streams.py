"""Many short videos into features: the stages on a local Ray cluster against plain processes on the same cores.

    OMP_NUM_THREADS=1 python speed/streams.py [--clips 2000] [--kill 0]

Clips of 8 to 12 frames of 64 x 64 pixels, each of its own content; ten frames of each, `dollhouse-clip`. `plain` is a
pool of processes that decode and encode clip by clip, without a store, isolation, retries or continuation: what the
work itself costs. `threads` is `tideo encode` and `ray` is `tideo encode --ray local`, whole commands with their starts.
`--kill N` ends N of the cluster's decoders and encoders while it runs, and the rows are counted. The memory of the
driver and of the object store is shown at every tenth of the run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from tideo.cluster import Cluster
from tideo.encoders.dual import load_encoder
from tideo.encoders.encode import EncodedFolder, encode_videos
from tideo.encoders.sources import videos_in
from tideo.types import Video
from tideo.video.samplers import sample_frames

ENCODER, FRAMES = "dollhouse-clip", 10
WORKERS = {"ray::MapWorker(MapBatches(_Decoder))": "decoder", "ray::MapWorker(MapBatches(_Encoder))": "encoder"}


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


def begin() -> None:
    global encoder
    encoder = load_encoder(ENCODER)


def rows_of(video: Video) -> int:
    return len(encoder.encode_images(sample_frames(video, FRAMES).rgb_THWC))


def plain(videos: list[Video]) -> int:
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), begin) as pool:
        return sum(pool.imap_unordered(rows_of, videos, chunksize=32))


def processes() -> dict[int, str]:
    """The pools' workers: pid → kind."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = place.read_text().rstrip("\0 ")
        except OSError:
            continue
        if name in WORKERS:
            found[int(place.parent.name)] = WORKERS[name]
    return found


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(out: Path, *, num: int, kill: int, ended: threading.Event) -> None:
    """Print the memory at every tenth, and end `kill` workers, of the kinds in turn, in the first half."""
    import ray
    from ray._private.internal_api import get_state_from_address, node_stats  # noqa: F401

    tenth = killed = 0
    while not ended.wait(0.5):
        done = sum(len(path.read_text().split('"')) for path in ()) or rows_written(out)
        if killed < kill and done > num * (killed + 1) / (2 * kill + 2):
            kind = ("decoder", "encoder")[killed % 2]
            pids = [pid for pid, each in processes().items() if each == kind]
            if pids and pids[0] not in (os.getpid(),):
                os.kill(pids[0], signal.SIGKILL)
                killed += 1
                print(f"{done:>10,} killed a {kind}, process {pids[0]}", flush=True)
        if done >= tenth * num / 10 and ray.is_initialized():
            tenth += 1
            stats: Any = node_stats().store_stats
            used = stats.object_store_bytes_used / 1e6
            print(f"{done:>10,} driver {resident_mb():7.0f} MB   object store {used:7.1f} MB", flush=True)
