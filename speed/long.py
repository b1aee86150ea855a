"""What hours of video cost: a pool of frames, the questions after it, and the decoding alone against its floor.

    python speed/long.py --minutes 18             # a try
    python speed/long.py --minutes 180 --plot docs/img/long-cost.png

The video is 640 x 360 H.264 at 25 frames a second with a key frame every 250, made here: 40 s of it are encoded by x264
(half of the frames B-frames that no other refers to) and their packets are repeated. Three measurements, each in
processes of its own:

    ask twice     `tideo ask` with a pool in --features: the first makes it, the second decodes the chosen frames alone
    ten questions the key-frame pool and ten questions to the tiny text-only model, in one process
    decoding      CPU time for the frames of the exact pool, without encoder, over a hundredth, a tenth and all of the
                  length; decord, torchcodec and OpenCV's loop decode the same frames where they are installed

The floor is what no exact method can go below: decoding, by PyAV alone, the frames that others refer to from the key
frame before each frame of the pool up to it, from packets already in memory, and one colour conversion for each.
Reading, planning and seeking cost nothing in it.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from decode import cpu_s, lend_ffmpeg, texture

from tideo.types import Video
from tideo.video.bitstream import droppable
from tideo.video.pool import PoolSettings, decode_part, pool_parts

FPS, KEYINT, CLIP_S = 25, 250, 40
WIDTH, HEIGHT = 640, 360
VERBS = ("pours", "opens", "fills", "holds", "cleans", "drops", "takes", "finds", "moves", "sees")
QUESTIONS = [f"who {verb} the cup?" for verb in VERBS]
ASK = "who pours the tea?"


# ---------------------------------------------------------------- the video


def make(path: Path, *, minutes: float) -> None:
    """A clip of CLIP_S seconds, repeated as packets."""
    rng = np.random.default_rng(0)
    wide = texture(rng, HEIGHT + 200, WIDTH + 400, 45)
    noise = (rng.normal(size=(HEIGHT, WIDTH, 1)) * 3).astype(np.int16)
    clip = io.BytesIO()
    with av.open(clip, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        params = f"keyint={KEYINT}:min-keyint={KEYINT}:scenecut=0:bframes=1:b-adapt=0:b-pyramid=none"
        stream.options = {"preset": "veryfast", "crf": "26", "x264-params": params}
        for index in range(CLIP_S * FPS):
            left, top = int(200 + 190 * np.sin(index / 180)), int(100 + 90 * np.cos(index / 130))
            rgb = wide[top : top + HEIGHT, left : left + WIDTH] + np.roll(noise, int(rng.integers(HEIGHT)), 0)
            frame = av.VideoFrame.from_ndarray(np.clip(rgb, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path), "w") as out:
        added = None
        for number in range(round(minutes * 60 / CLIP_S)):
            with av.open(io.BytesIO(clip.getvalue())) as source:
                stream = source.streams.video[0]
                added = added or out.add_stream_from_template(stream)
                offset = int(number * Fraction(CLIP_S) / stream.time_base)
                for packet in source.demux(stream):
                    if packet.size:
                        packet.stream, packet.pts, packet.dts = (
                            added,
                            packet.pts + offset,
                            packet.dts + offset,
                        )
                        out.mux(packet)


def video_of(folder: Path, minutes: float) -> str:
    path = folder / f"360p25-{minutes:g}min-key{KEYINT}.mp4"
    if not path.is_file():
        print(f"making {path.name}", file=sys.stderr)
        partial = path.with_suffix(".partial.mp4")
        make(partial, minutes=minutes)
        partial.rename(path)
    return str(path)


# ---------------------------------------------------------------- whole commands


def spent(command: Sequence[str]) -> dict[str, float]:
    """Seconds, CPU seconds and the largest memory of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    return {
        "s": round(time.perf_counter() - start, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "mb": round(usage.ru_maxrss / 1024),
    }


def ask_twice(path: str, pool: str) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        args = ["--model-args", f"sampler=bolt,pool={pool}", "--features", folder]
        return [spent([sys.executable, "-m", "tideo", "ask", path, ASK, *args]) for _ in range(2)]


def ten_questions(path: str) -> None:
    """In a process of its own: the key-frame pool, then ten questions to one model."""
    from tideo.evaluate.ask import ask
    from tideo.models.load import load_model

    logging.disable()  # that the video is unlike a dollhouse
    model = load_model("dollhouse-topa", args=["sampler=bolt", "pool=keyframes"])
    for question in QUESTIONS:
        ask(path, question=question, options=("a man", "a woman"), model=model)


# ---------------------------------------------------------------- decoding


def pool_of(path: str, minutes: float) -> list[float]:
    (first, *_) = pool_parts(Video(id="v", path=path, end_s=60 * minutes), PoolSettings())
    return list(first.times_s)


def ours(path: str, minutes: float) -> int:
    parts = pool_parts(Video(id="v", path=path, end_s=60 * minutes), PoolSettings())
    return sum(len(decode_part(part)) for part in parts)


def floor_s(path: str, times_s: Sequence[float]) -> float:
    """The floor described above."""
    total = 0.0
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoder, reformatter = stream.codec_context, VideoReformatter()
        decoder.thread_count, decoder.thread_type = 1, "NONE"
        needless = droppable("h264", decoder.extradata)
        # At a constant rate from 0 on, the frame on display is known by its number.
        wanted = {int(Fraction(int(t * FPS + 1e-6), FPS) / stream.time_base) for t in times_s}
        end = max(wanted)
        for group in groups_of(container.demux(stream)):
            if group[0].pts > end:
                break
            targets = {packet.pts for packet in group} & wanted
            if not targets:
                continue
            last = max(i for i, packet in enumerate(group) if packet.pts in targets)
            needed = [p for p in group[: last + 1] if p.pts in targets or not needless(p)]
            start = cpu_s()
            for packet in [*needed, None]:
                for frame in decoder.decode(packet):
                    if frame.pts in targets:
                        reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            decoder.flush_buffers()
            total += cpu_s() - start
    return total


def groups_of(packets: Iterator[av.Packet]) -> Iterator[list[av.Packet]]:  # from each key frame on
    group: list[av.Packet] = []
    for packet in packets:
        if packet.is_keyframe and group:
            yield group
            group = []
        if packet.size:
            group.append(packet)
    yield group


def torchcodec_frames(path: str, times_s: Sequence[float]) -> int:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order="NHWC")
    return sum(
        len(decoder.get_frames_played_at(list(times_s[i : i + 32])).data) for i in range(0, len(times_s), 32)
    )


def decord_frames(path: str, times_s: Sequence[float]) -> int:
    import decord

    reader, indices = decord.VideoReader(path, num_threads=1), [int(t * FPS + 1e-6) for t in times_s]
    return sum(len(reader.get_batch(indices[i : i + 32]).asnumpy()) for i in range(0, len(indices), 32))


def opencv_loop(path: str, times_s: Sequence[float]) -> int:
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted, found = {int(t * FPS + 1e-6) for t in times_s}, 0
    for index in range(max(wanted) + 1):
        capture.grab()
        if index in wanted:
            found += capture.retrieve()[1].shape == (HEIGHT, WIDTH, 3)
    return found


Peer = Callable[[str, Sequence[float]], int]
PEERS: dict[str, tuple[str, Peer]] = {  # name → package, and what decodes
    "torchcodec, exact": ("torchcodec", torchcodec_frames),
    "decord": ("decord", decord_frames),
    "OpenCV, grab and retrieve": ("opencv-python-headless", opencv_loop),
}


def peers_here(path: str) -> dict[str, Peer]:
    """Those that decode the video here, with their versions; one line for each of the others."""
    found = {}
    for name, (package, peer) in PEERS.items():
        try:
            peer(path, [0.5])
            found[f"{name} ({version(package)})"] = peer
        except (ImportError, OSError, RuntimeError) as error:
            print(f"left out: {name} ({package}: {str(error).splitlines()[0]})", file=sys.stderr)
    return found


def decoding(path: str, minutes: float, *, rounds: int, peers: Mapping[str, Peer]) -> dict[str, float]:
    """CPU seconds of each method, the least of the rounds."""
    times_s = pool_of(path, minutes)
    methods: dict[str, Callable[[], int]] = {"Tideo": lambda: ours(path, minutes)}
    methods |= {name: partial(peer, path, times_s) for name, peer in peers.items()}
    found: dict[str, float] = {}
    for _ in range(rounds):
        found["floor"] = min(floor_s(path, times_s), found.get("floor", np.inf))
        for name, method in methods.items():
            start = cpu_s()
            num = method()
            found[name] = min(cpu_s() - start, found.get(name, np.inf))
            if num != len(times_s):
                sys.exit(f"{name}: {num} frames where {len(times_s)} were asked for")
    return {"frames": len(times_s), **{name: round(seconds, 2) for name, seconds in found.items()}}


def plot(results: dict[float, dict[str, float]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    axes.set(xlabel="minutes of video", ylabel="CPU seconds to decode the exact pool")
    for name in [name for name in next(iter(results.values())) if name != "frames"]:
        points = [(minutes, row[name]) for minutes, row in results.items() if name in row]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.legend()
    figure.savefig(out, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=180)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tideo-benchmark-videos")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--ten", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ten:
        ten_questions(given.ten)
        return
    lend_ffmpeg()
    given.cache.mkdir(parents=True, exist_ok=True)
    path = video_of(given.cache, given.minutes)
    print(f"{given.minutes:g} minutes, {os.path.getsize(path) / 1e6:,.0f} MB\n")
    print("| | s | CPU s | MB |\n|---|---|---|---|")
    commands: dict[str, dict[str, float]] = {}
    for pool in ("keyframes", "exact"):
        for what, took in zip(("makes the pool", "second question"), ask_twice(path, pool), strict=True):
            commands[f"tideo ask, pool={pool}, {what}"] = took
    commands["key-frame pool and ten questions"] = spent([sys.executable, __file__, "--ten", path])
    for name, took in commands.items():
        print(f"| {name} | {took['s']} | {took['cpu_s']} | {took['mb']} |", flush=True)
    lengths = [given.minutes / 100, given.minutes / 10, given.minutes]
    peers = {} if given.no_peers else peers_here(path)
    results = {m: decoding(path, m, rounds=given.rounds, peers=peers) for m in lengths}
    names = [name for name in results[lengths[-1]] if name != "frames"]
    print(f"\n| minutes | frames | {' | '.join(f'{name}, CPU s (÷ floor)' for name in names)} |")
    print("|---|---|" + "---|" * len(names))
    for minutes, row in results.items():
        cells = [f"{row[name]} ({row[name] / row['floor']:.2f})" for name in names]
        print(f"| {minutes:g} | {row['frames']} | {' | '.join(cells)} |")
    if given.plot:
        plot(results, given.plot)
    if given.out:
        given.out.write_text(
            json.dumps({"commands": commands, "decoding": results}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
