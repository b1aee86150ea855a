"""An open video stream: its packets, its clock, and its frames as RGB.

A tick is one unit of the stream's time base; seconds are `tick * time_base`, with nothing subtracted.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Discard, Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from tideo.types import VideoError
from tideo.video.frame_folder import frame_folder

Source = str | Path | bytes

# Without this list FFmpeg also "plays" text files, and playlists that name other files and hosts.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,gif,apng,ogg,asf,h264,hevc,m4v,ivf,obu,"
    "nut,mxf,rm,dv,mjpeg,yuv4mpegpipe"
)
PICTURES = "image2"  # a folder of numbered pictures
# Here a packet is one frame with its own time, and key frames are marked and can be sought.
INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", PICTURES)
ESTIMATED = ("mpegts", "mpeg", "flv")  # their duration is FFmpeg's estimate
DEFAULT_FPS = 25  # FFmpeg's own assumption for raw streams


class OpenVideo:
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
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._open()

    def _head(self, path: str | Path) -> bytes:
        if not os.path.isfile(path):
            raise self.error("there is no such file; give the path of a video file")
        if not os.access(path, os.R_OK):
            raise self.error("it cannot be read; ask for the permission to read it")
        with open(path, "rb") as file:
            return file.read(12)

    def _open(self) -> None:
        file = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        try:
            self.container = av.open(
                file, "r", format=self._format, options=self._options, metadata_errors="replace"
            )
        except av.FFmpegError as error:
            raise self.error(
                f"it cannot be read as a video ({error.strerror or error}); "
                "expected a whole mp4, mkv, webm, avi or gif file"
            ) from error
        self._unread = True
        stream = self.container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            kinds: list[str] = [each.type for each in self.container.streams if each.type != "video"]
            kinds += ["a cover picture"] if stream is not None else []
            self.close()
            held = " and ".join(dict.fromkeys(kinds)) or "nothing"
            raise self.error(f"it holds no video stream, only {held}; give a file with moving pictures")
        if stream.codec_context is None or stream.time_base is None:
            self.close()
            raise self.error("no decoder is known for its video codec; convert it to H.264")
        for other in self.container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        self.stream: Any = stream
        self.decoder: Any = stream.codec_context
        self.time_base: Fraction = stream.time_base

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def error(self, what: str) -> VideoError:
        return VideoError(f"video {self.name}: {what}")

    @property
    def indexed(self) -> bool:
        return self.container.format.name in INDEXED

    @property
    def _timed(self) -> bool:
        """Whether frames have their own times; an avi with B-frames has only decoding times."""
        return self.container.format.name != "avi" or not self.decoder.has_b_frames

    @property
    def fps(self) -> float:
        """The average frame rate, or 0 if the file does not give it."""
        return float(self.stream.average_rate or self.stream.guessed_rate or 0)

    @property
    def start(self) -> int:
        """The tick of the first frame."""
        return int(self.stream.start_time or 0)

    @property
    def declared_end(self) -> int | None:
        """The tick at which the last frame ends, by the header; None if the header does not give it."""
        if self.container.format.name in ESTIMATED:
            return None
        if self.stream.duration:
            return self.start + int(self.stream.duration)
        tagged_s = _clock_s(self.stream.metadata.get("DURATION", ""))
        if tagged_s is not None:
            return self.floor_tick(tagged_s)
        if self.container.duration and len(self.container.streams) == 1:
            return self.start + self.floor_tick(self.container.duration / av.time_base)
        return None

    @cached_property
    def end(self) -> int:
        """The tick at which the last frame ends. Reads every packet if the header does not give it."""
        if self.declared_end is not None:
            return self.declared_end
        packets = [(packet.pts, packet.duration or 0) for packet in self.packets(None)]
        ends = [pts + duration for pts, duration in packets if pts is not None]
        return max(ends, default=self.start + self.floor_tick(len(packets) / (self.fps or DEFAULT_FPS)))

    def is_cut_off(self, tick: int, *, last: int, duration: int | None) -> bool:
        """Whether the last readable frame, `last`, ends before `tick` although the header promised more.

        Two frames of slack are allowed, because headers round.
        """
        slack = max(duration or 0, self.floor_tick(2 / (self.fps or DEFAULT_FPS)))
        return self.declared_end is not None and last + slack < tick < self.declared_end

    def seconds(self, tick: int) -> float:
        return float(tick * self.time_base)

    def floor_tick(self, time_s: float) -> int:
        """The last tick whose seconds, as a float, are not after `time_s`."""
        tick = math.floor(Fraction(time_s) / self.time_base)
        return tick + 1 if self.seconds(tick + 1) <= time_s else tick

    def seek_point(self, tick: int) -> int | None:
        """Where to seek so that the first key frame read is displayed by `tick`; None is the file's start."""
        at = tick
        for back_s in (0, *(2.0**n for n in range(-1, 20))):
            first = next((packet for packet in self.packets(at) if packet.is_keyframe), None)
            if first is not None and first.pts is not None and first.pts <= tick:
                return at
            # In mp4 seeking goes by decoding times, so it can land on a key frame displayed after `tick`.
            read = at if first is None or first.dts is None else min(at, first.dts)
            at = read - 1 - self.floor_tick(back_s)
            if at < self.start - self.floor_tick(1):
                return None
        return None

    def packets(self, at: int | None) -> Iterator[av.Packet]:
        """The packets from a seek to tick `at` on, or from the file's start (None), while they can be read."""
        try:
            if at is not None:
                self.container.seek(at, stream=self.stream)
            elif not self._unread:
                self.close()
                self._open()
            self._unread = False
            for packet in self.container.demux(self.stream):
                if packet.size:  # the last packet is empty, and so is a repeated frame of an avi
                    yield packet
        except av.FFmpegError:
            return  # the file is cut off or damaged; the caller finds the frames missing

    def frames(self) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Every frame of the file with its tick, in display order; None for one that could not be decoded.

        A frame without a time (raw streams, avi) gets its number divided by the frame rate.
        """
        tick, num = self.start, 0
        torn: set[int] = set()  # the times of packets that the file holds only in part
        for packet in chain(self.packets(None), [None]):
            if packet is not None and packet.is_corrupt and packet.pts is not None:
                torn.add(packet.pts)
            try:
                decoded = self.decoder.decode(packet)
            except av.FFmpegError:
                yield (tick if packet is None or packet.pts is None else packet.pts), None
                continue
            for frame in decoded:
                tick = frame.pts if self._timed and frame.pts is not None else self._tick_of(num)
                num += 1
                yield tick, None if frame.is_corrupt or frame.pts in torn else frame

    def frame_ticks(self) -> list[int]:
        """The ticks of all frames, in order. Reads every packet and decodes none."""
        ticks = [packet.pts for packet in self.packets(None) if not packet.is_discard]
        if None in ticks or not self._timed:
            return [self._tick_of(num) for num in range(len(ticks))]
        return sorted(pts for pts in ticks if pts is not None)

    def key_ticks(self) -> list[int]:
        """The ticks of the key frames, in order: from the index of an mp4, else by reading every packet.

        An mp4's index holds decoding times. Adding the first key frame's delay to all makes them nearly exact.
        """
        if self.container.format.name != INDEXED[0]:
            ticks = [each.pts for each in self.packets(None) if each.is_keyframe and not each.is_discard]
            return sorted(pts for pts in ticks if pts is not None)
        entries = self.stream.index_entries
        keys = [each.timestamp for each in entries if each.is_keyframe and not each.is_discard]
        return [key + self.start - keys[0] for key in keys]

    def key_shown(self, key_tick: int) -> int:
        """The exact tick of a key frame that `key_ticks` gave."""
        if self.container.format.name != INDEXED[0]:
            return key_tick
        ticks = (each.pts for each in self.packets(key_tick) if each.is_keyframe)
        return next((pts for pts in ticks if pts is not None), key_tick)

    def _tick_of(self, num: int) -> int:
        """The tick of frame `num` in a file without frame times."""
        return self.floor_tick(num / (self.fps or DEFAULT_FPS) + 1e-9)

    def rgb(self, frame: av.VideoFrame, size: tuple[int, int] | None) -> np.ndarray:
        """uint8 [H, W, 3], a view: rotated and mirrored as the file asks, scaled to `size` (W, H) if given.

        A stream whose frame size changes gets the size of its first converted frame throughout.
        """
        a, b, c, d = _display_matrix(frame)
        rotated = abs(b) > abs(a)
        self._size = self._size or ((frame.height, frame.width) if rotated else (frame.width, frame.height))
        width, height = size or self._size
        if rotated:
            width, height = height, width
        scaled = (width, height) != (frame.width, frame.height)
        converted = self._reformatter.reformat(
            frame,
            width,
            height,
            "rgb24",
            interpolation=Interpolation.BICUBIC if scaled else Interpolation.BILINEAR,
            threads=1,
        )
        # A view of the frame's own memory: to_ndarray would copy it, and a caller that keeps it copies it anyway.
        plane = converted.planes[0]
        rgb_HWC = np.ndarray(
            (height, width, 3), np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 3, 1)
        )
        if rotated:
            rgb_HWC = rgb_HWC.transpose(1, 0, 2)
        across, down = (c, b) if rotated else (a, d)
        return rgb_HWC[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """a, b, c, d of ISO/IEC 14496-12, section 6.2.2: a point moves to x' = a x + c y, y' = b x + d y."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].tolist()
    return a, b, c, d


def _clock_s(text: str) -> float | None:
    """Seconds of Matroska's "hh:mm:ss.fraction", or None for any other text."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
