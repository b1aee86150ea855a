"""The grid table: variants of a recipe, each trained once, on the same questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tideo.lab.grid_study import VARIANTS, grid_study, page
from tideo.registry import load
from tideo.train.finetune_config import GridTraining
from tideo.types import UserError


def test_an_unknown_variant_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown variant 'LoRa'; did you mean LoRA\?"):
        grid_study(load("finetunes", "dollhouse")(), out=tmp_path, variants=["LoRa"])


@pytest.mark.slow
def test_a_study_runs_and_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    tiny = GridTraining(steps=1, batch=2, bf16=False)
    recipe = replace(load("finetunes", "dollhouse")(), num=2, num_captions=4, align=tiny, train=tiny)
    study, forgetting = grid_study(recipe, out=tmp_path, seeds=1, num=1)
    assert set(forgetting) == set(VARIANTS)
    assert {"main", "blind", "single_frame", "shuffled_frames", "sampler question", "LoRA"} <= set(
        study.rates
    )
    assert (tmp_path / "table.md").read_text() == page(study, forgetting)
    before = (tmp_path / "models" / "recipe_0" / "model.safetensors").stat().st_mtime_ns
    again, _ = grid_study(recipe, out=tmp_path, seeds=1, num=1)
    assert again.rates == study.rates
    assert (tmp_path / "models" / "recipe_0" / "model.safetensors").stat().st_mtime_ns == before
