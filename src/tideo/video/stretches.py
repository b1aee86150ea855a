"""Which packets show the frames at given times: what is on display when, found out without decoding."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import av

from tideo.video.bitstream import droppable
from tideo.video.clock import LOOKAHEAD
from tideo.video.streams import OpenVideo

HELD_BYTES = 32 * 2**20  # packets of a stretch that are kept to be decoded; more are read again


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Frames to decode from one key frame. All values are ticks."""

    seek: int | None  # where to seek; None is the start of the file
    num_before: int  # packets from there to the key frame's, the first one to decode
    wanted: frozenset[int]  # decoding ends after the last of these
    packets: tuple[
        av.Packet, ...
    ] = ()  # from the key frame on, with all that are needed; empty if they are too large


def plan_stretches(video: OpenVideo, ticks: Sequence[int]) -> Iterator[tuple[dict[int, int | None], Stretch]]:
    """Which frame is on display at the first of the sorted ticks, with the stretch that decodes it; then at the others.

    Reads packets and decodes nothing; a stretch may be decoded before the next one is asked for. Ends before a tick
    that the packets cannot settle.
    """
    while ticks:
        seek = video.seek_point(ticks[0])
        found, num_before, packets = _scan(video, seek, ticks)
        if not found:
            return
        wanted = frozenset(at for at in found.values() if at is not None)
        yield found, Stretch(seek=seek, num_before=num_before, wanted=wanted, packets=packets)
        ticks = ticks[len(found) :]


def _scan(
    video: OpenVideo, seek: int | None, ticks: Sequence[int]
) -> tuple[dict[int, int | None], int, tuple[av.Packet, ...]]:
    """What is on display until the next key frame, how many packets come before that of the first tick, and the others.

    Finds nothing where the packets do not prove it.
    """
    nothing: tuple[dict[int, int | None], int, tuple[av.Packet, ...]] = ({}, 0, ())
    # So that not all packets are read up to there. If it is wrong, that costs time, and no frame is another.
    if (next_key := video.next_key(ticks[0])) is not None:
        ticks = ticks[: max(1, bisect.bisect_left(ticks, next_key))]
    held: list[av.Packet] = []  # from the key frame on
    held_bytes = 0
    key: int | None = None  # how many packets come before the key frame's
    pts: list[int] = []  # of the frames that are displayed, sorted
    longest = 0
    for num, packet in enumerate(video.packets(seek)):
        if packet.pts is None:
            return nothing
        if packet.is_keyframe and packet.pts <= ticks[0]:
            # Hidden key frames lead in to a later part of an edit list; frames before them may still be on display.
            if not packet.is_discard or not pts:
                key = num
                pts.clear()
                held, held_bytes = [], 0
        elif packet.is_keyframe and key is not None:
            ticks = ticks[: bisect.bisect_left(ticks, packet.pts)]
        elif key is None and seek is None:
            key = num
        if key is not None:
            held_bytes += packet.size
            if held_bytes <= HELD_BYTES:
                held.append(packet)
        if key is not None and not packet.is_discard:
            place = bisect.bisect_left(pts, packet.pts)
            if pts[place : place + 1] == [packet.pts]:
                return nothing  # which of two frames of one time is on display, the order of decoding settles
            pts.insert(place, packet.pts)
            longest = max(longest, packet.duration or 0)
        if len(pts) - bisect.bisect_right(pts, ticks[-1]) >= LOOKAHEAD:
            cut_off = []
            break
    else:
        cut_off = [tick for tick in ticks if pts and video.is_cut_off(tick, last=pts[-1], duration=longest)]
    if key is None or not pts or (seek is not None and pts[0] > max(ticks[0], video.start)):
        return nothing
    found: dict[int, int | None] = {tick: pts[max(bisect.bisect_right(pts, tick) - 1, 0)] for tick in ticks}
    packets = tuple(held) if held_bytes <= HELD_BYTES else ()
    return found | dict.fromkeys(cut_off), key, packets


def packets_needed(video: OpenVideo, stretch: Stretch) -> Iterator[av.Packet]:
    """The packets that show the wanted frames, without those that no other frame refers to."""
    is_droppable = droppable(video.decoder.codec.canonical_name, video.decoder.extradata)
    unsent = set(stretch.wanted)
    packets = stretch.packets or islice(video.packets(stretch.seek), stretch.num_before, None)
    for packet in packets:
        if packet.pts in unsent and not packet.is_discard:
            yield packet
            unsent.remove(packet.pts)
            if not unsent:
                return
        elif not is_droppable(packet):
            yield packet
