"""An open video stream: where its frames lie in time, and its frames as RGB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import av
import numpy as np

from tideo.video.demux import DEFAULT_FPS, MATROSKA, MP4, PYAV_ERRORS, Demuxer, Source, reason
from tideo.video.rgb import RgbConverter

__all__ = ["OpenVideo", "Source"]

ESTIMATED = ("mpegts", "mpeg", "flv")  # their duration is FFmpeg's estimate


class _Time(NamedTuple):
    """A packet's times in ticks; `shown` is None if it is not known before decoding, but only nearly so, `time`."""

    shown: int | None
    time: int | None
    duration: int
    is_key: bool


class OpenVideo(Demuxer):
    """The frames of the best video stream, by their ticks. Raises VideoError as `Demuxer` does."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._converter = RgbConverter()

    @cached_property
    def indexed(self) -> bool:
        """Whether a seek finds every frame: packets have the frames' times, and the times rise.

        A live webm or a fragmented mp4 may hold several recordings, so its packets are read to know.
        """
        return self.steady or (self.format in (MP4, MATROSKA) and bool(self._whole) and not self.jumped)

    @property
    def _timed(self) -> bool:
        """Whether packets have the frames' own times; an avi has only the order of decoding."""
        return self.format != "avi"

    def _time(self, packet: av.Packet) -> int | None:
        """When a packet's frame is displayed, or nearly so if only the time of decoding is known."""
        if self._timed:
            return packet.dts if packet.pts is None else packet.pts
        return None if packet.dts is None else packet.dts - self._early

    @cached_property
    def _early(self) -> int:
        """Where files give only times of decoding: how much earlier the first packets come than one a frame.

        The packet that releases the first frame was decoded some frames after the first; a hole there counts too.
        """
        first: int | None = None
        for num, packet in enumerate(chain(self.packets(None), [None])):
            first = packet.dts if first is None and packet is not None else first
            try:
                decoded = self.decode(packet)
            except PYAV_ERRORS:
                continue
            if decoded:
                released = decoded[0].dts
                return 0 if released is None or first is None else released - first - num * self.step
        return 0

    @cached_property
    def start(self) -> int:
        """The tick of the first frame. A file's own start may be its first time of decoding, so its packet counts."""
        first = None if self.steady else next((each.shown for each in self._whole), None)
        return self._header_start if first is None else first

    @property
    def _header_start(self) -> int:
        return int(self.stream.start_time or 0)

    @property
    def _header_end(self) -> int | None:
        """The tick at which the last frame ends, by the header; None if the header does not give it."""
        if self.format in ESTIMATED:
            return None
        if self.stream.duration:
            return self._header_start + int(self.stream.duration)
        tagged_s = _clock_s(self.stream.metadata.get("DURATION", ""))
        if tagged_s is not None:
            return self.floor_tick(tagged_s)
        if self.container.duration:
            return self._header_start + self.floor_tick(self.container.duration / av.time_base)
        return None

    @property
    def _promised_end(self) -> int | None:
        """The header's end in a file that breaks off; None in a whole one, whose packets say it themselves."""
        if not (self.layout.cut_off or self.broken):
            return None
        promised_s = self.layout.promised_s
        return self._header_end if promised_s is None else self._header_start + self.floor_tick(promised_s)

    @cached_property
    def end(self) -> int:
        """The tick at which the last frame ends: that of the packets, or the header's if the file is cut off.

        Headers of whole files are not trusted: many count the sound, or were written for another cut.
        """
        last: tuple[int, int] | None = None
        if self.indexed and self._header_end is not None:
            last = self._last(self._times(self.packets(self._header_end)))
        last = last or self._last(self._whole)
        if last is None:
            read = self.start + self._ticks_of(len(self._whole))
        else:
            # A packet may last until the next is decoded, which is later than the next one's display.
            time, read = last
            read = self._header_end if self._header_end and time < self._header_end < read else read
        return max(read, self._promised_end or read)

    @staticmethod
    def _last(times: Iterable[_Time]) -> tuple[int, int] | None:
        """When the frame that is displayed last begins and ends."""
        return max(
            ((each.time, each.time + each.duration) for each in times if each.time is not None), default=None
        )

    def is_cut_off(self, tick: int, *, last: int, duration: int | None) -> bool:
        """Whether the last readable frame, `last`, ends before `tick` although the file should go on.

        Two frames of slack are allowed, because headers round.
        """
        promised = self._promised_end
        return promised is not None and last + self.slack(duration) < tick < promised

    def slack(self, duration: int | None) -> int:
        return max(duration or 0, 2 * self.step)

    def seek_point(self, tick: int) -> int | None:
        """Where to seek so that the first key frame read is displayed by `tick`; None is the file's start.

        A hidden one does not count: it leads in to a part of an edit list, and frames before it may be on display.
        """
        at = tick
        for back_s in (0, *(2.0**n for n in range(-1, 20))):
            first = next((packet for packet in self.packets(at) if packet.is_keyframe), None)
            if first is not None and first.pts is not None and first.pts <= tick and not first.is_discard:
                return at
            # In mp4 seeking goes by decoding times, so it can land on a key frame displayed after `tick`.
            read = at if first is None or first.dts is None else min(at, first.dts)
            at = read - 1 - self.floor_tick(back_s)
            if at < self.start - self.floor_tick(1):
                return None
        return None

    def frames(self) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Every frame of the file with its tick, in display order; None for one that could not be decoded.

        Ticks rise. Where the file gives a frame no time, or one before its predecessor's, the time of its decoding
        counts, and without that the frame rate. Frames that should have come last and did not are one None after
        the last.
        """
        known = self._header_start  # the last time that was given
        num = 0  # how many frames came from it on
        if not self._timed:
            _ = self._early  # which reads the file itself, so not during this reading
        tick = lead = first_dts = latest = None
        num_sent = num_shown = 0
        torn: set[int] = set()  # the times of packets that the file holds only in part
        for packet in chain(self.packets(None), [None]):
            at = None if packet is None else self._time(packet)
            if packet is not None:
                first_dts = packet.dts if first_dts is None else first_dts
                if at is not None and not packet.is_discard:
                    latest = at if latest is None else max(latest, at)
                    num_sent += 1
                if packet.is_corrupt and packet.pts is not None:
                    torn.add(packet.pts)
            try:
                decoded = self.decode(packet)
            except PYAV_ERRORS:
                yield (at if at is not None else known if tick is None else tick), None
                continue
            for frame in decoded:
                time = frame.pts if self._timed else None
                is_wrong = time is not None and tick is not None and time <= tick
                if frame.dts is not None and time is not None and not is_wrong:
                    lead = frame.dts - time
                elif frame.dts is not None and first_dts is not None:
                    # The packet that releases a frame is as many frames ahead of it as those before were.
                    lead = frame.dts - first_dts if lead is None else lead
                    time = frame.dts - lead
                known, num = (time, 0) if time is not None else (known, num)
                time = known + self._ticks_of(num)
                num += 1
                num_shown += 1
                tick = time if tick is None else max(time, tick + 1)
                yield tick, None if frame.is_corrupt or frame.pts in torn else frame
        if latest is not None and tick is not None and num_shown < num_sent:
            lost = tick + self.slack(None)
            if lost < latest:
                yield lost, None

    def frame_ticks(self) -> list[int]:
        """The ticks of all frames, in order. Reads every packet, and decodes them only if they lack times."""
        ticks = [each.shown for each in self._whole]
        if None in ticks:
            return [tick for tick, _ in self.frames()]
        return sorted(tick for tick in ticks if tick is not None)

    def key_ticks(self) -> list[int]:
        """The ticks of the key frames, in order: from the index of an mp4, else by reading every packet.

        An mp4's index holds decoding times. Adding the first key frame's delay to all makes them nearly exact.
        """
        if keys := self.indexed_keys:
            return [key + self.start - keys[0] for key in keys]
        ticks = [each.shown for each in self._whole if each.is_key]
        if None in ticks:
            return [tick for tick, frame in self.frames() if frame is not None and frame.key_frame]
        return sorted(tick for tick in ticks if tick is not None)

    def key_shown(self, key_tick: int) -> int:
        """The exact tick of a key frame that `key_ticks` gave."""
        if not self.indexed_keys:
            return key_tick
        ticks = (each.pts for each in self.packets(key_tick) if each.is_keyframe)
        return next((pts for pts in ticks if pts is not None), key_tick)

    @cached_property
    def indexed_keys(self) -> list[int]:
        """When the key frames of an mp4 are decoded, if its header lists all frames and an edit list hides none."""
        if self.format != MP4 or not self.steady:
            return []
        keys = []
        for each in self.stream.index_entries:
            if each.is_discard:
                return []
            if each.is_keyframe:
                keys.append(each.timestamp)
        return keys

    def next_key(self, tick: int) -> int | None:
        """About when the first key frame after a tick is displayed, by the index of an mp4; None if it is not known."""
        if self.format != MP4 or not self.steady:
            return None
        entries = self.stream.index_entries
        lead = self.start - entries[0].timestamp if len(entries) else 0
        at = entries.search_timestamp(tick - lead + 1, backward=False)
        return None if at < 0 else entries[at].timestamp + lead

    @cached_property
    def _whole(self) -> list[_Time]:
        """The times of all packets of the file whose frames are displayed."""
        return list(self._times(self.packets(None)))

    def _times(self, packets: Iterable[av.Packet]) -> Iterator[_Time]:
        early, step = (None if self._timed else self._early), self.step
        for packet in packets:
            if not packet.is_discard:
                pts, dts, duration = packet.pts, packet.dts, packet.duration or step
                if early is not None:
                    yield _Time(None, None if dts is None else dts - early, duration, packet.is_keyframe)
                else:
                    yield _Time(pts, dts if pts is None else pts, duration, packet.is_keyframe)

    def _ticks_of(self, num: int) -> int:
        """How long `num` frames last at the frame rate."""
        return self.floor_tick(num / (self.fps or DEFAULT_FPS) + 1e-9)

    def rgb(self, frame: av.VideoFrame, size: tuple[int, int] | None) -> np.ndarray:
        """uint8 [H, W, 3], a view: rotated and mirrored as the file asks, scaled to `size` (W, H) if given.

        A stream whose frame size changes gets the size of its first converted frame throughout. Raises VideoError
        for pixels that cannot be converted, and for more than the limit of `video.limits`.
        """
        self.check_pixels(frame.width, frame.height)
        try:
            return self._converter.rgb(frame, size)
        except PYAV_ERRORS as error:
            kind = f"{frame.width} x {frame.height} pixels, {frame.format.name}"
            raise self.error(
                f"its frames ({kind}) cannot be converted to RGB ({reason(error)}); convert it to H.264"
            ) from error


def _clock_s(text: str) -> float | None:
    """Seconds of Matroska's "hh:mm:ss.fraction", or None for any other text."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
