"""The dollhouse's conversations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tideo.models.grid.settings import GridSettings
from tideo.tiny.grid_episodes import captioned_pictures, grid_conversations
from tideo.types import UserError


def test_the_dollhouse_draws_grids_questions_and_captions() -> None:
    settings = GridSettings(rows=3, cols=3, image_size=96, prompt_style="plain", form="text", intro="")
    first, *_ = grid_conversations(num=2, settings=settings, retrieval_tasks=0)
    assert first.pictures.open()[0].size == (96, 96)
    assert first.turns[0].user.startswith("Video:\nQuestion: ")
    assert first.turns[-1].user == "Video:\nSummary: "
    assert all(turn.reply.endswith(".") for turn in first.turns)
    caption, other = captioned_pictures(num=2, settings=replace(settings, rows=1, cols=1))
    assert caption.pictures.key != other.pictures.key
    assert np.array_equal(caption.pictures.open()[0], caption.pictures.open()[0])
    with pytest.raises(UserError, match="tideo dollhouse make"):
        grid_conversations(num=1, settings=replace(settings, sampler="uniform"))


def test_the_dollhouse_shows_single_frames_too() -> None:
    settings = GridSettings(look="video", frames=5, image_size=96, prompt_style="plain", form="text")
    first, *_ = grid_conversations(num=1, settings=settings, retrieval_tasks=0)
    assert (first.pictures.look, first.pictures.num, len(first.pictures.open())) == ("video", 5, 5)


def test_drills_ask_about_what_the_cells_show() -> None:
    settings = GridSettings(rows=3, cols=3, image_size=96, prompt_style="plain", form="text", intro="")
    plain, *_ = grid_conversations(num=1, settings=settings, retrieval_tasks=0)
    taught, *_ = grid_conversations(num=1, settings=settings, retrieval_tasks=2)
    assert taught.turns[: len(plain.turns)] == plain.turns
    more = taught.turns[len(plain.turns) :]
    assert {"Video:\nFacts: shirt: ", "Video:\nFacts: shelf: "} <= {turn.user for turn in more}
    assert sum(turn.user.startswith("Video:\nQuestion: ") for turn in more) == 2
    (again,) = [turn for turn in more if turn.user.startswith("Video:\nAgain: ")]
    (back,) = [turn for turn in more if turn.user.startswith("Video:\nBackwards: ")]
    assert len(again.reply.split(", ")) == len(back.reply.split(", ")) > 1
    assert all(turn.reply.endswith(".") and turn.user.endswith(" ") for turn in more)
