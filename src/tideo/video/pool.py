"""The frames of a video that a selector chooses from: planned, divided into parts, and decoded part by part.

A part holds few enough frames to lie in memory beside others. It begins with a key frame where the index of an mp4
shows one, so that no frame is decoded for two parts.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import av
import numpy as np

from tideo.types import Frames, UserError, Video
from tideo.video.clip import segment_bounds
from tideo.video.decode import NothingDecoded, decode_from_start, frames_at
from tideo.video.samplers import middle
from tideo.video.streams import OpenVideo

Kind = Literal["exact", "keyframes"]
# The most of a part, or four times that with one key frame. Below 32 MiB memory is used again, and not mapped anew.
PART_FRAMES, PART_BYTES = 64, 24 * 2**20
MOST_FRAMES = 10_000  # of a pool: selectors compare each frame with each
OPEN_PASSES = 4
TURN_S = 1.0  # how long a part waits for the one before it


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """Which frames of a video or segment are its pool.

    `pool`: "exact", the frames in the middle of each 1 / `pool_fps` seconds, or "keyframes", the key frames nearest to
    these times, for which no other frame is decoded. Beyond `pool_max` frames the times are further apart, evenly.
    """

    pool: Kind = "exact"
    pool_fps: float = 1.0
    pool_max: int = 1000

    def __post_init__(self) -> None:
        check_pool(self)


def check_pool(settings: PoolSettings) -> None:
    """Raise UserError for a pool that cannot be."""
    known = get_args(Kind)
    if settings.pool not in known:
        raise UserError(f"pool={settings.pool!r}: expected one of {', '.join(known)}")
    if not 0 < settings.pool_fps <= 1000:
        raise UserError(
            f"pool_fps={settings.pool_fps:g}: expected more than 0 and at most 1000 frames a second"
        )
    if not 1 <= settings.pool_max <= MOST_FRAMES:
        raise UserError(f"pool_max={settings.pool_max}: expected 1 to {MOST_FRAMES} frames")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The frames of a pool at `times_s[first:last]`; `times_s` are those of the whole pool, ascending."""

    video: Video
    times_s: tuple[float, ...]
    first: int
    last: int


def pool_times(opened: OpenVideo, video: Video | None, settings: PoolSettings) -> list[float]:
    """The times of the pool's frames, ascending, at least one. Raises VideoError for a segment without frames."""
    start_s, end_s = segment_bounds(opened, video)
    num = max(1, min(settings.pool_max, math.ceil((end_s - start_s) * settings.pool_fps - 1e-6)))
    times_s = middle(opened, num, start_s, end_s)
    if settings.pool == "exact":
        return times_s
    keys = [(opened.seconds(tick), tick) for tick in opened.key_ticks()]
    keys = [(key_s, tick) for key_s, tick in keys if start_s <= key_s <= end_s]
    if not keys:
        raise opened.error(
            f"no key frame lies between {start_s:.2f} and {end_s:.2f} s, and pool=keyframes has no other: "
            "use pool=exact"
        )
    keys_s = np.array([key_s for key_s, _ in keys])
    after = np.clip(np.searchsorted(keys_s, times_s), 1, max(1, len(keys) - 1))
    before = after - 1
    after = np.minimum(after, len(keys) - 1)
    nearest = np.where(np.abs(keys_s[after] - times_s) < np.abs(keys_s[before] - times_s), after, before)
    return [opened.seconds(opened.key_shown(keys[i][1])) for i in np.unique(nearest)]


def pool_parts(video: Video, settings: PoolSettings) -> list[Part]:
    """The parts of a pool, in the order of time; nothing is decoded. Raises VideoError as `pool_times`."""
    with OpenVideo(video.path) as opened:
        times_s = tuple(pool_times(opened, video, settings))
        size = opened.decoder.width * opened.decoder.height * 3
        most = max(1, min(PART_FRAMES, PART_BYTES // max(size, 1)))
        keys = [opened.seconds(tick) for tick in opened.key_ticks()] if opened.indexed_keys else []
    # How many key frames come before each time: where that grows, a part may begin at no cost.
    group = [bisect.bisect_right(keys, time_s) for time_s in times_s] if keys else range(len(times_s))
    starts = [i for i in range(len(times_s)) if i == 0 or group[i] != group[i - 1]]
    bounds = [0]
    for first, last in zip(starts, [*starts[1:], len(times_s)], strict=True):
        if last - bounds[-1] > most and first > bounds[-1]:
            bounds.append(first)
        while last - bounds[-1] > 4 * most:
            bounds.append(bounds[-1] + most)
    return [
        Part(video=video, times_s=times_s, first=first, last=last)
        for first, last in zip(bounds, [*bounds[1:], len(times_s)], strict=True)
    ]


def decode_part(part: Part) -> Frames:
    """The frames of a part, one for each time that shows one; `missing_s` has the others, perhaps all.

    Raises VideoError for a file that is no video, and for frames that exceed the memory or the limits.
    """
    with OpenVideo(part.video.path) as opened:
        if opened.indexed:
            times_s = part.times_s[part.first : part.last]
            try:
                return frames_at(opened, times_s, size=None, video_id=part.video.id, warns=False)
            except NothingDecoded:  # damage from the first time to the last
                return _frames([], [], times_s, video=part.video)
    return _Pass.of(part).frames(part)


def _frames(
    rgb: Sequence[Any], pts_s: Sequence[float], missing_s: Sequence[float], *, video: Video
) -> Frames:
    return Frames(
        rgb_THWC=np.stack(rgb) if rgb else np.empty((0, 1, 1, 3), np.uint8),
        pts_s_T=np.array(pts_s, dtype=float),
        video_id=video.id,
        missing_s=tuple(missing_s),
    )


class _Pass:
    """One decode of a file without an index, from its start on. Its parts take their frames from it in turn.

    To decode a part by itself would begin at the start of the file each time.
    """

    _open: ClassVar[OrderedDict[tuple[Video, tuple[float, ...]], _Pass]] = OrderedDict()
    _lock = threading.Lock()

    @classmethod
    def of(cls, part: Part) -> _Pass:
        """The pass that is under way, or a new one."""
        key = (part.video, part.times_s)
        with cls._lock:
            found = cls._open.setdefault(key, cls(part))
            cls._open.move_to_end(key)
            if len(cls._open) > OPEN_PASSES:
                cls._open.popitem(last=False)
        return found

    def __init__(self, part: Part) -> None:
        self._key = (part.video, part.times_s)
        self._turn = threading.Condition()
        self._next = 0  # the first time that is still to come
        self._opened: OpenVideo | None = None
        self._decoded: Iterator[tuple[int, int, av.VideoFrame]] = iter(())
        self._held: tuple[int, int, av.VideoFrame] | None = None

    def frames(self, part: Part) -> Frames:
        with self._turn:
            # Of two threads the one with the later part may come first.
            self._turn.wait_for(lambda: self._next >= part.first, timeout=TURN_S)
            try:
                if self._opened is None or self._next > part.first:
                    self._begin(part)
                found = self._take(part)
            except BaseException:
                self._end()  # an iterator that raised has ended: what it did not decode would pass for lost
                raise
            self._next = part.last
            if part.last == len(part.times_s):
                self._end()
            self._turn.notify_all()
            return found

    def _begin(self, part: Part) -> None:
        self._opened = OpenVideo(part.video.path)
        ticks = sorted({self._opened.floor_tick(time_s) for time_s in part.times_s[part.first :]})
        self._decoded = decode_from_start(self._opened, ticks)
        self._held = next(self._decoded, None)

    def _end(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened, self._decoded = None, iter(())
        with self._lock:
            self._open.pop(self._key, None)

    def _take(self, part: Part) -> Frames:
        assert self._opened is not None
        rgb, pts_s, missing_s = [], [], []
        for time_s in part.times_s[part.first : part.last]:
            tick = self._opened.floor_tick(time_s)
            while self._held is not None and self._held[0] < tick:
                self._held = next(self._decoded, None)
            if self._held is None or self._held[0] > tick:
                missing_s.append(time_s)
            else:
                rgb.append(self._opened.rgb(self._held[2], None).copy())
                pts_s.append(self._opened.seconds(self._held[1]))
        return _frames(rgb, pts_s, missing_s, video=part.video)
