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


def test_episodes_are_shown_at_uneven_times() -> None:
    settings = GridSettings(
        rows=3, cols=3, image_size=96, prompt_style="plain", form="text", intro="{times}|"
    )
    plain, *_ = grid_conversations(num=2, settings=settings)
    assert plain.uneven is not None
    one, same, other = (plain.uneven(seed) for seed in ("a", "a", "b"))
    assert one.pictures.key == same.pictures.key
    assert len({c.pictures.key for c in (plain, one, other)}) == 3
    words = [turn.user.partition("|")[2] for turn in plain.turns]
    assert [turn.user.partition("|")[2] for turn in one.turns][: len(words) // 2] == words[: len(words) // 2]
    assert len({turn.user.partition("|")[0] for c in (plain, one, other) for turn in c.turns}) == 3
    assert not np.array_equal(plain.pictures.open()[0], one.pictures.open()[0])
