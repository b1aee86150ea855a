"""Every container that PyAV can write, and what goes wrong in each: holes, joins, lying headers, longer sound."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from videos import X264, index_of, picture

X264_B = X264 | {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2:b-adapt=0"}
MPEG2 = {"g": "12", "bf": "2", "q": "2"}
VP8 = {"deadline": "realtime", "cpu-used": "8", "g": "12", "b": "400k"}


@dataclass(frozen=True, kw_only=True)
class Container:
    """How to write one: FFmpeg's name of it, a codec that it takes, and a codec for the sound (None: no sound)."""

    name: str
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str]
    sound: str | None = "aac"
    flags: dict[str, str] | None = None
    holes: bool = True  # whether it can hold a frame longer than the others
    joins: bool = True  # whether FFmpeg reads on in a second file behind the first


CONTAINERS = {
    "mp4": Container(name="mp4", options=X264_B, joins=False),
    "mov": Container(name="mov", codec="mpeg4", options={"g": "12", "bf": "2"}, joins=False),
    "fragmented": Container(name="mp4", options=X264_B, flags={"movflags": "frag_keyframe+empty_moov"}, joins=False),
    "mkv": Container(name="matroska", options=X264_B),
    "webm": Container(name="webm", codec="libvpx", options=VP8, sound="libopus"),
    "live webm": Container(name="webm", codec="libvpx", options=VP8, sound="libopus", flags={"live": "1"}),
    "avi": Container(name="avi", codec="mpeg4", options={"g": "12", "bf": "0"}, sound="mp2"),
    "avi with B": Container(name="avi", codec="mpeg4", options={"g": "12", "bf": "2"}, sound="mp2"),
    "avi H.264": Container(name="avi", options=X264_B, sound="mp2"),
    "ts": Container(name="mpegts", options=X264_B),
    "mpg": Container(name="mpeg", codec="mpeg2video", options=MPEG2, sound="mp2", holes=False),
    "flv": Container(name="flv", options=X264_B, joins=False),
    "wmv": Container(name="asf", codec="wmv2", options={"g": "12", "b": "900k"}, sound="wmav2", joins=False),
    "nut": Container(name="nut", codec="mpeg4", options={"g": "12", "bf": "2"}, sound="mp2", joins=False),
    "mxf": Container(name="mxf", codec="mpeg2video", options=MPEG2, sound=None, holes=False, joins=False),
    "wtv": Container(name="wtv", codec="mpeg2video", options=MPEG2, sound="mp2", holes=False, joins=False),
    "ogg": Container(name="ogg", codec="libvpx", options=VP8, sound="libopus", holes=False, joins=False),
    "gif": Container(name="gif", codec="gif", pix_fmt="rgb8", options={}, sound=None),
    "apng": Container(name="apng", codec="apng", pix_fmt="rgb24", options={}, sound=None, joins=False),
    "mjpeg avi": Container(name="avi", codec="mjpeg", pix_fmt="yuvj420p", options={}, sound="mp2"),
    "raw H.264": Container(name="h264", options=X264_B, sound=None, holes=False),
}  # fmt: skip
FPS = 25


def video(
    kind: str,
    *,
    places: list[int],
    first: int = 0,
    sound_s: float | None = None,
    size: tuple[int, int] = (64, 48),
) -> bytes:
    """Frames with the numbers `first`, …, displayed at these places, each a multiple of a frame's time."""
    how = CONTAINERS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=how.name, options=how.flags or {}) as container:
        stream = container.add_stream(how.codec, rate=FPS)
        stream.width, stream.height = size
        stream.pix_fmt, stream.options = how.pix_fmt, how.options
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = stream.time_base = Fraction(1, FPS)
        sound = None
        if sound_s is not None and how.sound is not None:
            sound = container.add_stream(how.sound, rate=48000, layout="stereo")
            sound.bit_rate = 64000
        for index, place in enumerate(places, first):
            pixels = picture(index, width=size[0], height=size[1])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for start in range(0, int(sound_s * 48000), 4800):
                container.mux(sound.encode(_silence(start)))
            container.mux(sound.encode(None))
    return file.getvalue()


def _silence(start: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 4800), np.int16), format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
    return frame


def full_decode(data: bytes) -> list[int]:
    """The numbers of all frames in the order in which PyAV alone decodes them."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.best("video")
        return [index_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]


# ---------------------------------------------------------------- headers that lie


def _scale(data: bytearray, at: int, form: str, factor: float) -> None:
    (value,) = struct.unpack_from(form, data, at)
    struct.pack_into(form, data, at, value * factor if form in (">d", ">f") else int(value * factor))


def _lie_mp4(data: bytearray, factor: float) -> None:
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        at = data.find(name)
        assert at > 0
        _scale(data, at + offset, ">I", factor)


def _lie_matroska(data: bytearray, factor: float) -> None:
    _scale(data, data.index(b"\x44\x89\x88") + 3, ">d", factor)  # Segment → Info → Duration
    at = data.find(b"DURATION\x44\x87")  # the track's tag, "00:00:04.000000000"
    if at > 0:
        at = data.index(b"00:0", at)
        data[at : at + 8] = b"00:01:40" if factor > 1 else b"00:00:01"


def _lie_avi(data: bytearray, factor: float) -> None:
    _scale(data, data.index(b"avih") + 8 + 16, "<I", factor)  # dwTotalFrames
    _scale(data, data.index(b"strh") + 8 + 32, "<I", factor)  # dwLength


def _lie_asf(data: bytearray, factor: float) -> None:
    at = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))  # File Properties Object
    _scale(data, at + 64, "<Q", factor)  # play duration
    _scale(data, at + 72, "<Q", factor)  # send duration


def _lie_flv(data: bytearray, factor: float) -> None:
    _scale(data, data.index(b"duration\x00") + 9, ">d", factor)


LIES: dict[str, Callable[[bytearray, float], None]] = {
    "mp4": _lie_mp4,
    "mov": _lie_mp4,
    "mkv": _lie_matroska,
    "webm": _lie_matroska,
    "avi": _lie_avi,
    "avi with B": _lie_avi,
    "avi H.264": _lie_avi,
    "wmv": _lie_asf,
    "flv": _lie_flv,
}


def with_lying_header(data: bytes, kind: str, factor: float) -> bytes:
    """The file with its header's durations and counts of frames multiplied."""
    changed = bytearray(data)
    LIES[kind](changed, factor)
    return bytes(changed)
