"""Conversations of a training file, and pasted captions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from grid_training import (
    GRID,
    SIDE,
    nextqa_in,
)
from tideo.train.grid.conversations import Conversation, Pictures, Turn, annotated, pasted
from tideo.types import UserError


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
