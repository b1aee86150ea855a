"""What is read and decoded of a file to show the frames at given times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tideo.video import stretches
from tideo.video.decode import decode_at
from tideo.video.streams import OpenVideo
from videos import encode, index_of


def test_only_what_a_target_needs_is_decoded(tmp_path: Path) -> None:
    encode(
        tmp_path / "v.mp4",
        num=30,
        options={"x264-params": "keyint=12:min-keyint=12:bframes=1:b-adapt=0:scenecut=0"},
    )
    with OpenVideo(tmp_path / "v.mp4") as video:
        one = video.floor_tick(0.1)
        # frame 17 is a B-frame; keys at 12, 24
        planned = list(stretches.plan_stretches(video, [6 * one, 17 * one, 18 * one]))
        assert [list(shown.values()) for shown, _ in planned] == [[6 * one], [17 * one, 18 * one]]
        sent = [[p.pts // one for p in stretches.packets_needed(video, each)] for _, each in planned]
    assert sent == [[0, 2, 4, 6], [12, 14, 16, 18, 17]]


@pytest.mark.parametrize(("container", "most"), [("mp4", 52), ("matroska", 260)])
def test_packets_are_read_once_and_not_up_to_the_next_key_frame(
    tmp_path: Path, container: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v"
    encode(
        path, num=240, container_format=container, options={"x264-params": "keyint=120:scenecut=0:bframes=0"}
    )
    read = [0]
    packets = OpenVideo.packets

    def counted(self: OpenVideo, at: int | None) -> Iterator[av.Packet]:
        for packet in packets(self, at):
            read[0] += 1
            yield packet

    monkeypatch.setattr(OpenVideo, "packets", counted)
    frames = decode_at(path, [0.55, 12.35])
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [5, 123]
    assert read[0] <= most


def test_packets_that_are_too_large_to_keep_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "v.mp4", num=60)
    monkeypatch.setattr(stretches, "HELD_BYTES", 2000)
    with OpenVideo(tmp_path / "v.mp4") as video:
        (planned,) = stretches.plan_stretches(video, [video.floor_tick(4.0)])
        assert planned[1].packets == ()
    assert [index_of(rgb) for rgb in decode_at(tmp_path / "v.mp4", [0.3, 4.0]).rgb_THWC] == [3, 40]
