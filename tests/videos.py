"""Real video files, small and odd, encoded on the spot with PyAV; and the slow truth about any file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from tideo.types import Frames
from tideo.video.streams import OpenVideo, Source

SHARED = Path(__file__).parents[2] / "shared" / "videos"
X264 = {"preset": "veryfast", "crf": "20"}


def picture(index: int, *, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3]: a slope of colours that moves, and the index as eight black or white bars."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 3 + index * 5, y * 3 + index * 2, x + y + index * 11], axis=-1) % 256
    for bit in range(8):
        left = bit * width // 8
        rgb[: height // 4, left : left + width // 8] = 235 if index >> bit & 1 else 16
    return rgb.astype(np.uint8)


def encode(
    file: Path | io.BytesIO,
    *,
    num: int = 40,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    fps: int = 10,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts_ms: Sequence[int] | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    container_format: str | None = None,
    audio: bool = False,
    faststart: bool = False,
) -> None:
    """`pts_ms` gives each frame its own time; rotation is (degrees counter-clockwise, hflip, vflip).

    `faststart` puts an mp4's header before the pictures.
    """
    width, height = size
    target = file if isinstance(file, io.BytesIO) else str(file)
    flags = {"movflags": "faststart"} if faststart else {}
    with av.open(target, "w", format=container_format, options=flags) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = (X264 if codec == "libx264" else {}) | (options or {})
        stream.codec_context.thread_count = 1
        if pts_ms is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for index in range(num):
            frame = av.VideoFrame.from_ndarray(picture(index, width=width, height=height), format="rgb24")
            if pts_ms is not None:
                frame.pts, frame.time_base = pts_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(silence(8000 * num // fps)))
            container.mux(sound.encode(None))


def silence(num: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, num), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 8000
    return frame


def encode_audio(path: Path, *, cover: bool = False) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
            art.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(picture(1, width=64, height=48), format="rgb24")
            container.mux([*art.encode(frame), *art.encode(None)])
        container.mux(stream.encode(silence(8000)))
        container.mux(stream.encode(None))


def sequential(path: Path | str | bytes) -> tuple[list[float], list[np.ndarray]]:
    """The times and pictures that a plain decode of the best stream gives, rotation not applied."""
    with av.open(io.BytesIO(path) if isinstance(path, bytes) else str(path)) as container:
        frames = list(container.decode(container.streams.best("video")))
        return [float(f.pts * f.time_base) for f in frames], [f.to_ndarray(format="rgb24") for f in frames]


def read_all(source: Source) -> Frames:
    """Every frame of a file that `OpenVideo` can decode, rotation applied: the reference for `decode_at`."""
    with OpenVideo(source) as video:
        shown = [(tick, video.rgb(frame, None).copy()) for tick, frame in video.frames() if frame is not None]
        return Frames(
            rgb_THWC=np.stack([rgb_HWC for _, rgb_HWC in shown]),
            pts_s_T=np.array([video.seconds(tick) for tick, _ in shown]),
            video_id="",
        )


def index_of(rgb_HWC: np.ndarray) -> int:
    """The index that `picture` painted: literal proof of which frame this is."""
    height, width, _ = rgb_HWC.shape
    row = rgb_HWC[height // 8, :, 1]
    return sum(1 << bit for bit in range(8) if row[(2 * bit + 1) * width // 16] > 125)
