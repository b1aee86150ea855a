"""An open video file: its best video stream, that stream's packets, and their decoding.

A tick is one unit of the stream's time base; seconds are `tick * time_base`, with nothing subtracted.
"""

from __future__ import annotations

import io
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import av
from av.stream import Discard, Disposition

from tideo.types import VideoError
from tideo.video import limits
from tideo.video.bitstream import only_refreshes
from tideo.video.clock import MAX_GAP_S, RisingClock
from tideo.video.frame_folder import frame_folder
from tideo.video.layout import Layout, layout_of

Source = str | Path | bytes

# Without this list FFmpeg also "plays" text files, and playlists that name other files and hosts.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,gif,apng,ogg,asf,h264,hevc,m4v,ivf,obu,"
    "nut,mxf,gxf,wtv,rm,dv,mjpeg,yuv4mpegpipe"
)
PICTURES = "image2"  # a folder of numbered pictures
BROADCAST = ("mpegts", "mpeg")  # their clock of 33 bits may be set anew at any moment
MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
DEFAULT_FPS = 25  # FFmpeg's own assumption for raw streams
# What PyAV raises for a file, besides FFmpeg's own errors: of a system call, of a value that it has no name for, of
# a stream that appears midway, of a size that no memory holds. It is caught only round single calls of PyAV, so no
# fault of ours hides behind it.
PYAV_ERRORS = (av.FFmpegError, OSError, ValueError, LookupError, ArithmeticError, MemoryError, RuntimeError)


class Demuxer:
    """The best video stream of a file or of bytes, or a folder of numbered pictures; decoded on one thread.

    A context manager. Raises a one-line VideoError for a file that is no video.
    """

    def __init__(self, source: Source) -> None:
        self.name = f"of {len(source)} bytes" if isinstance(source, bytes) else str(source)
        self._format = None
        # FFmpeg takes concat:a|b for an address, but no absolute path.
        self._source = source if isinstance(source, bytes) else os.path.abspath(source)
        self._options = {"format_whitelist": FORMATS}
        if not isinstance(self._source, bytes) and os.path.isdir(self._source):
            try:
                self._source, options = frame_folder(Path(self._source))
            except ValueError as error:
                raise self.error(str(error)) from error
            self._format, self._options = PICTURES, options | {"format_whitelist": PICTURES}
        else:
            head = source[:12] if isinstance(source, bytes) else self._head(source)
            if not head:
                raise self.error("it is empty (0 bytes); copy or download it again")
            if head[4:8] == b"ftyp":
                self._options["skip_frame"] = "all"  # opening would decode to learn what the header says
        self.limits = limits.current()
        # Also in opening no larger frame is decoded; what the header says of its size is then lost.
        self._options |= self.limits.of_decoder
        self.broken = False  # whether reading ended with an error
        self.jumped = False  # whether times that jump were met
        self._open()

    def _head(self, path: str | Path) -> bytes:
        if not os.path.isfile(path):
            raise self.error("there is no such file; give the path of a video file")
        if not os.access(path, os.R_OK):
            raise self.error("it cannot be read; ask for the permission to read it")
        try:
            with open(path, "rb") as file:
                return file.read(12)
        except OSError as error:
            raise self.error(f"it cannot be read ({reason(error)}); copy or download it again") from error

    def _open(self) -> None:
        file = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        try:
            self.container = av.open(
                file, "r", format=self._format, options=self._options, metadata_errors="replace"
            )
            stream: Any = self.container.streams.best("video")
            is_cover = stream is not None and bool(stream.disposition & Disposition.attached_pic)
        except PYAV_ERRORS as error:
            raise self.error(
                f"it cannot be read as a video ({reason(error)}); "
                "expected a whole mp4, mkv, webm, avi or gif file"
            ) from error
        self._unread = True
        if stream is None or is_cover:
            kinds: list[str] = [each.type for each in self.container.streams if each.type != "video"]
            kinds += ["a cover picture"] if stream is not None else []
            self.close()
            held = ", only " + " and ".join(dict.fromkeys(kinds)) if kinds else ""
            raise self.error(f"it holds no video stream{held}; give a file with moving pictures")
        if stream.codec_context is None or not stream.time_base:
            self.close()
            raise self.error("no decoder is known for its video codec; convert it to H.264")
        for other in self.container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.options = self.limits.of_decoder
        try:
            self.check_pixels(stream.codec_context.width, stream.codec_context.height)
        except VideoError:
            self.close()
            raise
        self.stream = stream
        self.decoder: Any = stream.codec_context
        self.time_base: Fraction = stream.time_base
        self.format: str = self.container.format.name

    def check_pixels(self, width: int, height: int) -> None:
        """Raise VideoError for frames that are larger than the limit."""
        if width * height == 0 and self.limits.of_decoder:
            raise self.error(
                f"its frames have more than {self.limits.max_pixels:,} pixels, or it is damaged: send a smaller one"
            )
        if width * height > self.limits.max_pixels:
            raise self.error(
                f"its frames claim {width} x {height} pixels; expected at most {self.limits.max_pixels:,}. It may be "
                "damaged: copy or convert it again"
            )

    def check_bytes(self, num_bytes: int, *, what: str) -> None:
        """Raise VideoError for more bytes of frames than the limit."""
        if self.limits.max_bytes is not None and num_bytes > self.limits.max_bytes:
            raise self.error(
                f"{what} take {num_bytes:,} bytes; expected at most {self.limits.max_bytes:,}: send a smaller one"
            )

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def error(self, what: str) -> VideoError:
        return VideoError(f"video {self.name}: {what}")

    @cached_property
    def layout(self) -> Layout:
        return Layout(single=True) if self.format == PICTURES else layout_of(self._source, self.format)

    @property
    def steady(self) -> bool:
        """Whether the layout proves that times rise: all of one recording, with times in one index or Segment."""
        return self.format in (MP4, MATROSKA, PICTURES) and self.layout.single and not self.layout.fragmented

    @property
    def fps(self) -> float:
        """The average frame rate, or 0 if the file does not give it."""
        return float(self.stream.average_rate or self.stream.guessed_rate or 0)

    @cached_property
    def step(self) -> int:
        """The ticks from one frame to the next at the average rate, at least one."""
        return max(1, self.floor_tick(1 / (self.fps or DEFAULT_FPS)))

    def seconds(self, tick: int) -> float:
        return float(tick * self.time_base)

    def floor_tick(self, time_s: float) -> int:
        """The last tick whose seconds, as a float, are not after `time_s`."""
        tick = math.floor(Fraction(time_s) / self.time_base)
        return tick + 1 if self.seconds(tick + 1) <= time_s else tick

    def packets(self, at: int | None) -> Iterator[av.Packet]:
        """The packets from a seek to tick `at` on, or from the file's start (None), while they can be read.

        From the start on, their times are those of one rising clock, even in a file whose own times jump.
        """
        if at is None and not self._unread:
            self.close()
            self._open()
        self._unread = False
        if at is not None:
            try:
                self.container.seek(at, stream=self.stream)
            except PYAV_ERRORS:
                return
        yield from self._read() if at is not None or self.steady else self._on_one_clock(self._read())

    def _read(self) -> Iterator[av.Packet]:
        demuxed = self.container.demux(self.stream)
        is_no_key = only_refreshes(self.decoder.codec.canonical_name, self.decoder.extradata)
        while True:
            self.limits.check_time(self.name)
            try:
                packet = next(demuxed, None)
            except IndexError:
                return  # PyAV's way to end a file in which a further stream appeared midway
            except PYAV_ERRORS:
                self.broken = True
                return
            if packet is None:
                return
            if packet.is_keyframe and is_no_key(packet):
                packet.is_keyframe = False
            if packet.size:  # the last packet is empty
                yield packet

    def _on_one_clock(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        broadcast = self.format in BROADCAST
        max_gap, period = (self.floor_tick(MAX_GAP_S), 2**33) if broadcast else (None, None)
        clock = RisingClock(step=self.step, max_gap=max_gap, period=period)
        held: deque[av.Packet] = deque()
        for packet in packets:
            if clock.jumps_at(packet):
                self.jumped = True
                # A join breaks the counters of a transport stream. FFmpeg then calls the last frame before it damaged,
                # or, since its parser runs one frame late, the one before that.
                for before in held:
                    before.is_corrupt = False
            held.append(packet)
            if len(held) > 2:
                yield held.popleft()
        yield from held

    def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """The frames that the decoder releases for a packet, or at the end (None). Raises one of PYAV_ERRORS."""
        self.limits.check_time(self.name)
        decoded: list[av.VideoFrame] = self.decoder.decode(packet)
        return decoded


def reason(error: Exception) -> str:
    """What an error of PyAV or of the system says, or its name if it says nothing."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
