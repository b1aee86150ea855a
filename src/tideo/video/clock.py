"""One clock for a file whose times jump: recordings joined end to end, or a counter that overflowed."""

from __future__ import annotations

import bisect

import av

# H.264 and HEVC reorder over at most 16 frames: after 17 later frames, no earlier one follows. Frames coded as two
# fields have two packets.
LOOKAHEAD = 17
MAX_GAP_S = 60.0  # in transport streams; a longer step forward is another recording, not a lost signal


class RisingClock:
    """Shifts the times of packets, which come in the file's order, so that the frames' times go on rising.

    Where times jump back, the packet begins at the end of all before it, as FFmpeg's own tools have it. A jump is a
    key frame that would be displayed before a frame that the file holds earlier, or any frame that would be before
    more frames than a decoder can reorder. `max_gap` ticks is the longest step forward that is kept (None: any).
    `period` ticks is where the file's counter begins anew.
    """

    def __init__(self, *, step: int, max_gap: int | None, period: int | None) -> None:
        self._step, self._max_gap, self._period = step, max_gap, period
        self._shift = 0
        self._latest: list[int] = []  # the largest times, sorted
        self.end: int | None = None  # of the frames so far

    def jumps_at(self, packet: av.Packet) -> bool:
        """Shift the packet's times, and return whether a jump begins with it."""
        jumps, turns = False, 0
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and not packet.is_discard:
            time += self._shift
            if self._period and self.end is not None:
                turns = round((self.end - time) / self._period) * self._period
                time += turns
            jumps = self.end is not None and self._jumps(time, is_key=packet.is_keyframe)
            if jumps:
                assert self.end is not None
                self._shift += self.end - time
                time = self.end
                self._latest.clear()
            bisect.insort(self._latest, time)
            del self._latest[: -2 * LOOKAHEAD]
            if time == self._latest[-1]:
                self.end = time + (packet.duration or self._step)
        if shift := self._shift + turns:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        return jumps

    def _jumps(self, time: int, *, is_key: bool) -> bool:
        assert self.end is not None
        if self._max_gap is not None and time > self.end + self._max_gap:
            return True
        if is_key and self._latest and time < self._latest[-1]:
            return True
        return len(self._latest) == 2 * LOOKAHEAD and time < self._latest[0]
