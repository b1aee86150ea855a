"""Conversations of a training file, and pasted captions."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from grid_training import (
    GRID,
    SIDE,
    nextqa_in,
)
from tideo.train.grid.conversations import (
    Conversation,
    Pictures,
    Turn,
    adapted,
    annotated,
    pasted,
)
from tideo.train.grid.finetune import with_uneven
from tideo.types import UserError
from tideo.video.grid import time_stamps
from tideo.video.samplers import sample_frames
from videos import encode


def test_a_training_file_with_its_videos(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=2)
    first, second = annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=GRID)
    assert (first.id, len(first.turns), first.pictures.num) == ("0_0", 2, 1)
    assert first.turns[0].reply == "A"
    assert "2 rows of 2" in first.turns[0].user
    assert "what is it number 0\nA. tea" in first.turns[0].user
    assert first.pictures.key != second.pictures.key
    assert first.pictures.open()[0].size == (SIDE, SIDE)


def test_a_missing_video_is_told_before_training(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path)
    (tmp_path / "videos" / "2.mp4").unlink()
    with pytest.raises(UserError, match=r"1 of 4 videos are missing, the first .*2\.mp4"):
        annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=GRID)


def test_captioned_pictures_are_pasted_and_asked_for_by_their_cell() -> None:
    colours = [(40 * i, 0, 0) for i in range(6)]
    captioned = [
        Conversation(
            id=f"p{i}",
            pictures=Pictures(key=f"k{i}", num=1, open=lambda c=c: [Image.new("RGB", (14, 14), c)]),  # type: ignore[misc]
            turns=(Turn(user="What happens?", reply=f"red {i}."),),
        )
        for i, c in enumerate(colours)
    ]
    (whole,) = pasted(captioned, settings=GRID)
    assert [(t.user, t.reply) for t in whole.turns] == [
        (f"Picture {i + 1}: What happens?", f"red {i}.") for i in range(4)
    ]
    (image,) = whole.pictures.open()
    assert image.size == (SIDE, SIDE)
    assert [image.getpixel((x, y)) for y in (3, 17) for x in (3, 17)] == colours[:4]
    (other,) = pasted(captioned[::-1], settings=GRID)
    assert other.pictures.key != whole.pictures.key


def test_frames_are_counted_as_the_sampler_takes_them(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=1)
    settings = replace(GRID, rows=1, cols=2, panels=4, sampler="keyframes")
    (only,) = annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=settings)
    assert only.pictures.num == len(only.pictures.open()) == 1
    assert "shows 2 frames" in only.turns[0].user  # the video has two key frames


def test_a_turn_states_the_times_of_the_frames_that_are_shown(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=1)
    video = tmp_path / "videos" / "0.mp4"
    settings = replace(GRID, intro="{frames} frames at {times}.\n")
    for pts_ms in (
        range(0, 1320, 66),
        [*range(0, 950, 50), 2500],
    ):  # times between those of the sampler; a long last one
        encode(video, num=20, pts_ms=list(pts_ms))
        (only,) = annotated("nextqa", data=str(path), videos=str(video.parent), settings=settings)
        conversation, _ = adapted(only, lambda pictures: pictures.open())
        frames = sample_frames(video, 4)
        times = ", ".join(time_stamps(frames.pts_s_T.tolist()))
        assert conversation.turns[0].user.startswith(f"{len(frames)} frames at {times}.\n")


def test_pictures_have_no_uneven_times() -> None:
    pictures = Pictures(key="k", num=1, open=lambda: [Image.new("RGB", (14, 14))])
    picture = Conversation(id="p", pictures=pictures, turns=(Turn(user="what?", reply="red"),))
    assert with_uneven([picture], share=0.0, seed=0) == [picture]
    with pytest.raises(UserError, match=r"uneven=0\.5: none of the conversations is about a video"):
        with_uneven([picture], share=0.5, seed=0)


def test_a_share_of_the_videos_is_shown_at_uneven_times(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=3)
    for k in range(3):
        encode(tmp_path / "videos" / f"{k}.mp4", num=60, fps=2)
    settings = replace(GRID, intro="{times}|")
    even = annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=settings)
    assert with_uneven(even, share=0.0, seed=0) == even
    uneven = with_uneven(even, share=1.0, seed=0)
    others = with_uneven(even, share=1.0, seed=1)
    again = with_uneven(even, share=1.0, seed=0)
    for plain, one, other, same in zip(even, uneven, others, again, strict=True):
        assert plain.turns[0].user.startswith("0:03, 0:11, 0:18, 0:26|")
        times, _, question = one.turns[0].user.partition("|")
        assert question == plain.turns[0].user.partition("|")[2]
        assert "0:00" <= min(times.split(", ")) <= max(times.split(", ")) < "0:30"
        assert (one.id, one.turns[0].reply) == (plain.id, plain.turns[0].reply)
        assert len({plain.pictures.key, one.pictures.key, other.pictures.key}) == 3
        assert (same.pictures.key, same.turns) == (one.pictures.key, one.turns)
        assert one.pictures.open()[0].size == (SIDE, SIDE)
        assert one.uneven is None
    assert len({c.turns[0].user.partition("|")[0] for c in uneven}) > 1
    assert pickle.loads(pickle.dumps(uneven[0])).turns == uneven[0].turns  # as workers get it
