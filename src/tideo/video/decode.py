"""Frames at given times: exactly those that a decode from first to last would show, for less work.

Decoding starts at the key frame before each time, skips frames that no other frame refers to, and stops at the
last frame wanted of a stretch. There the decoder is drained, so that it needs no later packets to release it.
"""

from __future__ import annotations

import bisect
import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import av
import numpy as np

from tideo.types import Frames, UserError, VideoError
from tideo.video.demux import PYAV_ERRORS
from tideo.video.streams import OpenVideo, Source
from tideo.video.stretches import Stretch, packets_needed, plan_stretches


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts about a video stream; width and height as displayed, fps 0 if the file does not give it."""

    duration_s: float
    start_s: float  # the first frame's time: seldom 0 in transport streams
    width: int
    height: int
    fps: float
    codec: str
    format: str
    stream_index: int


def probe(source: Source) -> VideoInfo:
    """Facts about the best video stream. Decodes one frame. Raises VideoError if there is no frame."""
    with OpenVideo(source) as video:
        first = next(((tick, frame) for tick, frame in video.frames() if frame is not None), None)
        if first is None:
            raise nothing_decoded(video)
        start, frame = first
        height, width, _ = video.rgb(frame, None).shape
        return VideoInfo(
            duration_s=video.seconds(video.end) - video.seconds(start),
            start_s=video.seconds(start),
            width=width,
            height=height,
            fps=video.fps,
            codec=video.decoder.codec.canonical_name,
            format=video.container.format.name,
            stream_index=video.stream.index,
        )


def decode_at(
    source: Source, times_s: Sequence[float], *, size: tuple[int, int] | None = None, video_id: str = ""
) -> Frames:
    """The frame on display at each time, in the order of the times: the last with pts <= time, or the first.

    Pixel for pixel what a sequential decode of the best video stream gives, rotation applied; or scaled
    straight to `size` (width, height). Times may be unsorted and may repeat. A time whose frame is damaged or
    cut off is listed in `missing_s` and in one warning. Raises VideoError if no frame at all could be decoded.
    """
    with OpenVideo(source) as video:
        return frames_at(video, times_s, size=size, video_id=video_id)


def frames_at(
    video: OpenVideo,
    times_s: Sequence[float],
    *,
    size: tuple[int, int] | None,
    video_id: str,
    warns: bool = True,
) -> Frames:
    """`decode_at` for a video that is already open; without its warning unless it `warns`."""
    if len(times_s) == 0 or not all(math.isfinite(time_s) for time_s in times_s):
        raise UserError(f"times {list(times_s)}: expected at least one, all of them finite seconds")
    if size is not None and min(size) < 1:
        raise UserError(f"size {size}: expected (width, height) of at least one pixel each")
    ticks = [video.floor_tick(time_s) for time_s in times_s]
    # Wanted tick → tick of the frame on display, or None if the file ends before it.
    shown: dict[int, int | None] = {}
    rgb = _FrameBlock(video, size=size, num=len(set(ticks)))
    if video.indexed:
        try:
            for known, stretch in plan_stretches(video, sorted(set(ticks))):
                shown |= known
                for at, frame in decode_stretch(video, stretch) if stretch.wanted else ():
                    rgb.keep(at, frame)
        except _OutOfOrder:
            shown, rgb = {}, _FrameBlock(video, size=size, num=len(set(ticks)))
    # Without an index, or where the shortcut gave no frame, only decoding from the start is exact.
    unresolved = {tick for tick in ticks if tick not in shown or shown[tick] not in (None, *rgb.row)}
    shown |= dict.fromkeys(unresolved)
    for tick, at, frame in decode_from_start(video, sorted(unresolved)):
        shown[tick] = at
        rgb.keep(at, frame)
    if not rgb.row:
        raise nothing_decoded(video)
    found = [frame_tick for tick in ticks if (frame_tick := shown[tick]) is not None]
    missing_s = tuple(time_s for time_s, tick in zip(times_s, ticks, strict=True) if shown[tick] is None)
    if missing_s and warns:
        warnings.warn(f"video {video.name}: of {len(ticks)} frames, {lost_frames(missing_s)}", stacklevel=3)
    return Frames(
        rgb_THWC=rgb.rows(found),
        pts_s_T=np.array([video.seconds(at) for at in found]),
        video_id=video_id,
        missing_s=missing_s,
    )


def lost_frames(missing_s: Sequence[float]) -> str:
    """Words for the times whose frames could not be decoded, the same in every report. Empty if there are none."""
    times = ", ".join(f"{time_s:.3f} s" for time_s in missing_s)
    return f"{len(missing_s)} could not be decoded (damaged or cut off: {times})" if missing_s else ""


class _OutOfOrder(Exception):
    """The times of an index are wrong: only a decode from the start shows what is displayed when."""


class _FrameBlock:
    """RGB frames in one array. Each is converted into its place there, which saves a second copy of all."""

    def __init__(self, video: OpenVideo, *, size: tuple[int, int] | None, num: int) -> None:
        self._video, self._size, self._num = video, size, num
        self._block_THWC = np.empty(0, np.uint8)
        self.row: dict[int, int] = {}  # by the frame's tick

    def keep(self, at: int, frame: av.VideoFrame) -> None:
        if at in self.row:
            return
        rgb_HWC = self._video.rgb(frame, self._size)
        if not self.row:
            height, width, _ = rgb_HWC.shape
            what = f"{self._num} frames of {width} x {height} pixels"
            self._video.check_bytes(self._num * rgb_HWC.size, what=what)
            try:
                self._block_THWC = np.empty((self._num, *rgb_HWC.shape), np.uint8)
            except MemoryError as error:
                raise self._video.error(f"{what} do not fit into memory; ask for fewer or smaller") from error
        self.row[at] = len(self.row)
        self._block_THWC[self.row[at]] = rgb_HWC

    def rows(self, ticks: Sequence[int]) -> np.ndarray:
        """[T, H, W, 3], a frame for each of the ticks, which may be unsorted and may repeat."""
        rows = [self.row[tick] for tick in ticks]
        in_order = rows == list(range(len(rows)))
        return self._block_THWC[: len(rows)] if in_order else self._block_THWC[rows]


def decode_stretch(video: OpenVideo, stretch: Stretch) -> Iterator[tuple[int, av.VideoFrame]]:
    """The wanted frames with their ticks, up to the first damage: frames after it may differ from a full decode.

    Raises _OutOfOrder if the frames' times contradict the order in which the decoder displays them.
    """
    last: int | None = None
    for packet in chain(packets_needed(video, stretch), [None]):  # None drains the decoder
        if packet is not None and packet.is_corrupt:
            return
        try:
            decoded = video.decode(packet)
        except PYAV_ERRORS:
            return
        for frame in decoded:
            if frame.is_corrupt:
                return
            if last is not None and (frame.pts is None or frame.pts <= last):
                raise _OutOfOrder
            last = frame.pts
            if frame.pts in stretch.wanted:
                yield frame.pts, frame


def decode_from_start(video: OpenVideo, ticks: Sequence[int]) -> Iterator[tuple[int, int, av.VideoFrame]]:
    """Each of the sorted ticks with the tick of its frame and the frame, by a sequential decode.

    Leaves out a tick whose frame is damaged or cut off.
    """
    waiting = deque(ticks)
    damaged: list[int] = []  # sorted
    shown: tuple[int, av.VideoFrame] | None = None

    def is_sound(tick: int, at: int) -> bool:
        """Whether nothing was lost between the frame and the tick, or before both if the frame comes later."""
        lost = bisect.bisect_right(damaged, tick)
        return not lost or (at <= tick and bisect.bisect_right(damaged, at) == lost)

    for at, frame in video.frames() if waiting else ():
        if frame is None:
            bisect.insort(damaged, at)
            continue
        shown = shown or (at, frame)
        while waiting and at > waiting[0]:
            tick = waiting.popleft()
            if is_sound(tick, shown[0]):
                yield tick, *shown
        if not waiting:
            return
        shown = at, frame
    if shown is not None:
        at, frame = shown
        for tick in waiting:
            if is_sound(tick, at) and not video.is_cut_off(tick, last=at, duration=frame.duration):
                yield tick, at, frame


class NothingDecoded(VideoError):
    """Of the frames that were wanted none is sound."""


def nothing_decoded(video: OpenVideo) -> NothingDecoded:
    damage = "the file may be damaged: copy or convert it again"
    what = f"none of the frames could be decoded ({video.decoder.name}); {damage}"
    return NothingDecoded(str(video.error(what)))
