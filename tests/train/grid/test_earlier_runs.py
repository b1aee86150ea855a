"""Runs that an earlier version left unfinished; their run.json files were written by that version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tideo.config import override
from tideo.registry import load
from tideo.runs import same_recipe
from tideo.train.grid.finetune import finetune
from tideo.types import UserError

RUNS = Path(__file__).parent / "earlier_runs"


def test_a_finetuning_resumes_under_todays_names() -> None:
    recipe = override(load("recipes", "llava_1_5_13b_nextqa")(), ["train.bf16=true"])
    same_recipe(RUNS / "llava_1_5_13b_nextqa", recipe)
    for setting, difference in {
        "train.lr=1": "train.lr is 2e-05 there and 1.0 here",
        "modules=projector": "modules is",
        "packed=3": "packed is 8 there and 3 here",
        "grid.rows=3": "grid.rows is 4 there and 3 here",
    }.items():
        with pytest.raises(UserError, match=difference):
            same_recipe(RUNS / "llava_1_5_13b_nextqa", override(recipe, [setting]))


def test_a_run_of_several_stages_names_the_recipes_of_today(tmp_path: Path) -> None:
    shutil.copytree(RUNS / "three_stages", tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(UserError, match="a stage imitate, which is now a recipe of its own"):
            finetune(load("recipes", "dollhouse_grid")(), out=tmp_path / "run", resume=resume)
