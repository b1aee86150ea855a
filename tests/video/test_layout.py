"""What the sizes in a file prove, and one clock for times that jump."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odd_videos import video
from tideo.video.clock import RisingClock
from tideo.video.layout import Layout, layout_of

FORMATS = {
    "mp4": "mov,mp4,m4a",
    "fragmented": "mov,mp4,m4a",
    "mkv": "matroska,webm",
    "avi": "avi",
    "wmv": "asf",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_cut_off_and_joined_files(kind: str, tmp_path: Path) -> None:
    data, name = video(kind, places=list(range(10))), FORMATS[kind]
    whole = Layout(single=True, fragmented=kind == "fragmented")
    assert layout_of(data, name) == whole
    (tmp_path / "file").write_bytes(data)
    assert layout_of(tmp_path / "file", name) == whole
    assert layout_of(data[:-20], name).cut_off
    joined = layout_of(data * 2, name)
    assert (joined.cut_off, joined.single) == (False, False)


def test_a_live_webm_gives_no_size() -> None:
    assert layout_of(video("live webm", places=[0, 1]), "matroska,webm") == Layout()


@given(data=st.binary(max_size=200), name=st.sampled_from([*FORMATS.values(), "mpegts"]))
def test_any_bytes_have_a_layout(data: bytes, name: str) -> None:
    assert isinstance(layout_of(data, name), Layout)


def shifted(
    *times: tuple[int, bool], max_gap: int | None = None, period: int | None = None
) -> list[int | None]:
    """The times of packets, each (pts, whether it is a key frame), of frames that last 10, on one clock."""
    clock = RisingClock(step=10, max_gap=max_gap, period=period)
    found = []
    for pts, is_key in times:
        packet = av.Packet(b"x")
        packet.pts, packet.is_keyframe = pts, is_key
        clock.jumps_at(packet)
        found.append(packet.pts)
    return found


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(0, True), (30, False), (10, False), (20, False), (40, True)], [0, 30, 10, 20, 40]),  # B-frames
        ([(0, True), (10, False), (0, True), (10, False), (0, True)], [0, 10, 20, 30, 40]),  # two joins
        ([(0, True), (10, False), (5000, True)], [0, 10, 5000]),  # a hole
        ([(5000, True), (5010, False), (0, True)], [5000, 5010, 5020]),
    ],
)
def test_times_go_on_rising(times: list[tuple[int, bool]], expected: list[int]) -> None:
    assert shifted(*times) == expected


def test_a_step_forward_is_a_join_only_beyond_the_longest_gap() -> None:
    assert shifted((0, True), (90, True), (250, True), max_gap=100) == [0, 90, 100]


def test_a_counter_that_begins_anew() -> None:
    times = ((970, True), (0, False), (980, False), (990, False), (30, False), (10, False))
    assert shifted(*times, period=1000) == [970, 1000, 980, 990, 1030, 1010]


def test_a_frame_before_all_that_a_decoder_holds_is_a_join() -> None:
    times = [(10 * k, k == 0) for k in range(60)] + [(10 * k, False) for k in range(3)]
    assert shifted(*times)[-3:] == [600, 610, 620]
