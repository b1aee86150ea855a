"""CPU time for 16 frames of a long video, against the usual libraries; every frame checked.

    python speed/decode.py                     # 3 minutes of 720p30, a key frame every 250 and every 48
    python speed/decode.py --seconds 30 --rounds 2

The video is synthesized: two smooth textures that slide over each other, moving squares, fresh noise in every
frame; H.264 by x264, every second frame a B-frame that no other refers to. All methods run in one process in
turn, each on one thread; the time is user + system, the least of the rounds, opening the file included.
Libraries that are not installed are left out:
    pip install torch==2.13.0 torchcodec==0.13.0 decord opencv-python-headless
Where the machine has no FFmpeg for torchcodec, it is lent the one in PyAV's wheel.

The floor is what no exact method can go below: decoding the frames that others refer to, from the key frame
before each target up to it, and the targets, from packets already in memory, and 16 colour conversions whose
results are thrown away. Opening, planning, seeking, reading and keeping cost nothing in it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import re
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from tideo.video.bitstream import droppable
from tideo.video.decode import decode_at
from tideo.video.samplers import sample_frames

NUM = 16
FPS = 30
WIDTH, HEIGHT = 1280, 720
Method = Callable[[str, list[float]], np.ndarray]


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# ---------------------------------------------------------------- the video


def texture(rng: np.random.Generator, height: int, width: int, contrast: float) -> np.ndarray:
    """int16 [height, width, 3] of noise whose amplitude falls with the square of the frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    planes = []
    for _ in range(3):
        phase = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
        plane = np.fft.irfft2(phase / frequency**2, s=(height, width))
        planes.append(plane / plane.std())
    return np.clip(128 + contrast * np.stack(planes, -1), 0, 255).astype(np.int16)


def synthesize(path: Path, *, seconds: int, keyint: int) -> None:
    rng = np.random.default_rng(0)
    wide = texture(rng, HEIGHT + 800, WIDTH + 1600, 45)
    square = texture(rng, 160, 160, 60)
    noise = (rng.normal(size=(HEIGHT, WIDTH, 1)) * 3).astype(np.int16)

    def window(x: float, y: float) -> np.ndarray:
        left, top = int(800 + 780 * x), int(400 + 390 * y)
        return wide[top : top + HEIGHT, left : left + WIDTH]

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        params = f"keyint={keyint}:min-keyint={keyint}:scenecut=0:bframes=1:b-adapt=0:b-pyramid=none"
        stream.options = {"preset": "veryfast", "crf": "26", "x264-params": params}
        for index in range(seconds * FPS):
            t = index / FPS
            front, back = window(np.sin(t / 7), np.cos(t / 5)), window(np.sin(t / 5 + 1), np.sin(t / 4))
            rgb = (front * 4 + back) // 5
            for k in range(3):
                x = int((WIDTH - 160) * (0.5 + 0.5 * np.sin(t * (0.7 + k) + k)))
                y = int((HEIGHT - 160) * (0.5 + 0.5 * np.cos(t * (0.9 + k / 2) + k)))
                rgb[y : y + 160, x : x + 160] = square
            rgb += np.roll(noise, (int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))), (0, 1))
            frame = av.VideoFrame.from_ndarray(np.clip(rgb, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# ---------------------------------------------------------------- the methods


def tideo_exact(path: str, times_s: list[float]) -> np.ndarray:
    return decode_at(path, times_s).rgb_THWC


def tideo_keyframes(path: str, times_s: list[float]) -> np.ndarray:
    return sample_frames(path, len(times_s), sampler="keyframes").rgb_THWC


def pyav_full(path: str, times_s: list[float]) -> np.ndarray:
    indices = {round(time_s * FPS - 0.5) for time_s in times_s}
    with av.open(path) as container:
        container.streams.video[0].thread_count = 1
        frames = container.decode(video=0)
        return np.stack([f.to_ndarray(format="rgb24") for i, f in enumerate(frames) if i in indices])


def pyav_seek(path: str, times_s: list[float]) -> np.ndarray:
    rgb = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for time_s in times_s:
            container.seek(int(time_s / stream.time_base), stream=stream)
            shown = None
            for frame in container.decode(stream):
                if frame.time > time_s:
                    break
                shown = frame
            rgb.append(shown.to_ndarray(format="rgb24"))
    return np.stack(rgb)


def torchcodec_method(seek_mode: str) -> Method:
    from torchcodec.decoders import VideoDecoder

    def decode(path: str, times_s: list[float]) -> np.ndarray:
        decoder = VideoDecoder(path, seek_mode=seek_mode, num_ffmpeg_threads=1, dimension_order="NHWC")
        return decoder.get_frames_played_at(times_s).data.numpy()

    return decode


def decord_method() -> Method:
    import decord

    def decode(path: str, times_s: list[float]) -> np.ndarray:
        reader = decord.VideoReader(path, num_threads=1)
        return reader.get_batch([round(time_s * FPS - 0.5) for time_s in times_s]).asnumpy()

    return decode


def opencv_method() -> Method:
    import cv2

    cv2.setNumThreads(1)

    def decode(path: str, times_s: list[float]) -> np.ndarray:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        rgb = []
        for time_s in times_s:
            capture.set(cv2.CAP_PROP_POS_FRAMES, round(time_s * FPS - 0.5))
            rgb.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
        capture.release()
        return np.stack(rgb)

    return decode


PEERS: dict[str, tuple[str, Callable[[], Method]]] = {
    "torchcodec exact": ("torchcodec", lambda: torchcodec_method("exact")),
    "torchcodec approximate": ("torchcodec", lambda: torchcodec_method("approximate")),
    "OpenCV seek": ("opencv-python-headless", opencv_method),
    "decord": ("decord", decord_method),
}


def methods() -> dict[str, Method]:
    found: dict[str, Method] = {
        "Tideo, exact": tideo_exact,
        "Tideo, sampler keyframes": tideo_keyframes,
        "PyAV seek, decode to target": pyav_seek,
        "PyAV full decode": pyav_full,
    }
    for name, (package, make) in PEERS.items():
        try:
            found[name] = make()
        except (ImportError, OSError, RuntimeError) as error:
            print(f"left out: {name} ({package}: {str(error).splitlines()[0]})", file=sys.stderr)
    return found


def lend_ffmpeg() -> None:
    """Start again with PyAV's FFmpeg under the names torchcodec looks for, unless that was done."""
    libraries = Path(av.__file__).parents[1] / "av.libs"
    if "TIDEO_LENT_FFMPEG" in os.environ or not libraries.is_dir():
        return
    links = Path(tempfile.mkdtemp(prefix="ffmpeg-"))
    for library in libraries.iterdir():
        if match := re.fullmatch(r"(lib(?:av|sw)\w+)-\w+(\.so\.\d+)[\d.]*", library.name):
            (links / (match[1] + match[2])).symlink_to(library)
    paths = [str(links), str(libraries), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = os.environ | {"TIDEO_LENT_FFMPEG": "1", "LD_LIBRARY_PATH": ":".join(filter(None, paths))}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


# ---------------------------------------------------------------- what is right, and what it must cost


def reference(path: str, pts_s: list[float]) -> dict[float, np.ndarray]:
    """The frames at these times and those beside them, from a sequential decode."""
    near = {round(time_s * FPS) + k for time_s in pts_s for k in (-1, 0, 1)}
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        frames = enumerate(container.decode(video=0))
        return {i: frame.to_ndarray(format="rgb24") for i, frame in frames if i in near}


def verdict(rgb_THWC: np.ndarray, pts_s: list[float], right: dict[int, np.ndarray]) -> str:
    if len(rgb_THWC) != len(pts_s):
        return f"{len(rgb_THWC)} frames"
    indices = [round(time_s * FPS) for time_s in pts_s]
    if all(np.array_equal(rgb, right[i]) for rgb, i in zip(rgb_THWC, indices, strict=True)):
        return "identical"
    wrong, largest = 0, 0
    for rgb, i in zip(rgb_THWC, indices, strict=True):
        apart = {j: np.abs(rgb.astype(np.int16) - right[j]) for j in (i - 1, i, i + 1) if j in right}
        wrong += min(apart, key=lambda j: apart[j].mean()) != i
        largest = max(largest, int(apart[i].max()))
    return f"{wrong} wrong frames" if wrong else f"right frames, colours differ by up to {largest}"


def floor_s(path: str, times_s: list[float]) -> float:
    """The floor described above: only the packets needed, already in memory, and the conversions."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        decoder.thread_count, decoder.thread_type = 1, "NONE"
        needless = droppable("h264", decoder.extradata)
        packets = [packet for packet in container.demux(stream) if packet.size]
        shown = sorted(packet.pts for packet in packets)
        targets = {shown[round(time_s * FPS - 0.5)] for time_s in times_s}
        groups: list[list[av.Packet]] = []  # from each key frame on, what may be needed
        for packet in packets:
            if packet.is_keyframe:
                groups.append([])
            if packet.pts in targets or not needless(packet):
                groups[-1].append(packet)
        ends = [[i for i, packet in enumerate(group, 1) if packet.pts in targets] for group in groups]
        needed = [group[: max(end)] for group, end in zip(groups, ends, strict=True) if end]
        reformatter = VideoReformatter()
        start = cpu_s()
        for some in needed:
            for packet in [*some, None]:
                for frame in decoder.decode(packet):
                    if frame.pts in targets:
                        reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            decoder.flush_buffers()
        return cpu_s() - start


def measure(path: Path, *, seconds: int, rounds: int) -> dict[str, dict[str, object]]:
    times_s = [(round((k + 0.5) * seconds / NUM * FPS) + 0.5) / FPS for k in range(NUM)]
    pts_s = [time_s - 0.5 / FPS for time_s in times_s]
    keys_s = sample_frames(str(path), NUM, sampler="keyframes").pts_s_T.tolist()
    right = reference(str(path), pts_s + keys_s)
    found = methods()
    best: dict[str, float] = {}
    seen: dict[str, str] = {}
    floors = []
    for number in range(rounds):
        floors.append(floor_s(str(path), times_s))
        for name in random.Random(number).sample(list(found), len(found)):
            if name == "PyAV full decode" and number > 0:
                continue  # seconds long, so little disturbed
            start = cpu_s()
            rgb_THWC = found[name](str(path), times_s)
            spent_s = cpu_s() - start
            best[name] = min(spent_s, best.get(name, np.inf))
            seen[name] = verdict(rgb_THWC, keys_s if found[name] is tideo_keyframes else pts_s, right)
    best["floor"], seen["floor"] = min(floors), ""
    return {
        name: {
            "cpu_ms": round(1e3 * best[name], 1),
            "per_floor": round(best[name] / best["floor"], 2),
            "frames": seen[name],
        }
        for name in sorted(best, key=lambda name: best[name])
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keyint", type=int, nargs="+", default=[250, 48])
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tideo-benchmark-videos")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    given = parser.parse_args()
    lend_ffmpeg()
    packages = ("av", "torch", "torchcodec", "decord", "opencv-python-headless", "numpy")
    installed = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
    versions = {name: installed.get(name, "absent") for name in packages}
    print(f"{platform.machine()}, {os.cpu_count()} cores; {versions}")
    results = {}
    given.cache.mkdir(parents=True, exist_ok=True)
    for keyint in given.keyint:
        path = given.cache / f"720p30-{given.seconds}s-key{keyint}.mp4"
        if not path.is_file():
            print(f"making {path.name}", file=sys.stderr)
            partial = path.with_suffix(".partial.mp4")
            synthesize(partial, seconds=given.seconds, keyint=keyint)
            partial.rename(path)
        results[keyint] = measure(path, seconds=given.seconds, rounds=given.rounds)
        print(f"\n| key frame every {keyint} | CPU ms | ÷ floor | frames |\n|---|---|---|---|")
        for name, row in results[keyint].items():
            print(f"| {name} | {row['cpu_ms']} | {row['per_floor']} | {row['frames']} |")
    if given.out:
        given.out.write_text(
            json.dumps({"versions": versions, "results": results}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
