"""The grid table: variants of a recipe, each trained once, on the same questions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tideo.config import override
from tideo.lab import grid_study as study_module
from tideo.lab.grid_study import DISTILL_VARIANTS, VARIANTS, grid_study, page
from tideo.registry import load
from tideo.tiny.distill import DistillConfig
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.types import UserError


def recipes() -> tuple[FinetuneConfig, DistillConfig]:
    return load("recipes", "dollhouse_grid")(), load("recipes", "dollhouse_distill")()


def test_an_unknown_variant_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown variant 'LoRa'; did you mean LoRA\?"):
        grid_study(recipes()[0], distillation=recipes()[1], out=tmp_path, variants=["LoRa"])


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "recipe"])
def test_every_variant_changes_the_recipe(name: str) -> None:
    recipe, distillation = recipes()
    changed = override(recipe, VARIANTS[name]), override(distillation, DISTILL_VARIANTS.get(name, ()))
    assert changed != (recipe, distillation)


def test_the_published_outcomes_are_of_todays_recipe(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "docs" / "results" / "grid_study", tmp_path / "outcomes")
    study, reading = grid_study(
        recipes()[0], distillation=recipes()[1], out=tmp_path, seeds=1, variants=["LoRA", "grid 3 x 3"]
    )
    assert not (tmp_path / "models").exists()
    assert (len(study.samples), set(reading)) == (1062, {"teacher", "recipe", "LoRA", "grid 3 x 3"})


@pytest.mark.slow
def test_a_study_runs_and_what_is_there_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "NUM_READ", 1)
    tiny = GridTraining(steps=1, batch=2, bf16=False)
    recipe, distillation = recipes()
    recipe = replace(recipe, num=2, train=tiny)
    settings = {
        "distillation": replace(distillation, num=1, train=tiny),
        "seeds": 2,
        "num": 1,
        "num_val": 1,
        "variants": ["LoRA"],
        "variant_seeds": 1,
        "jobs": 2,
    }
    study, reading = grid_study(recipe, out=tmp_path, **settings)
    assert set(reading) == {"teacher", "recipe", "LoRA"}
    assert [len(study.by_seed[name]) for name in ("main", "fusion", "teacher", "LoRA")] == [2, 2, 2, 1]
    assert {"main", "blind", "single_frame", "shuffled_frames", "sampler question", "LoRA", "fusion"} <= set(
        study.rates
    )
    assert (tmp_path / "table.md").read_text() == page(study, reading)
    shutil.move(tmp_path / "outcomes", tmp_path / "kept")  # a model of another recipe is not taken either
    with pytest.raises(
        UserError, match=r"recipe_0 is a run of another recipe \(packed is \d+ there and 1 here\)"
    ):
        grid_study(
            replace(recipe, packed=1), out=tmp_path, **settings | {"jobs": 1, "seeds": 1, "variants": []}
        )
    shutil.rmtree(tmp_path / "outcomes")
    shutil.move(tmp_path / "kept", tmp_path / "outcomes")
    shutil.rmtree(tmp_path / "models")  # with the outcomes alone the table is made again
    again, read_again = grid_study(recipe, out=tmp_path, **settings)
    assert (again.rates, read_again) == (study.rates, reading)
    with pytest.raises(
        UserError, match=r"recipe_0.json is of another recipe or of other questions: remove it"
    ):
        grid_study(replace(recipe, packed=1), out=tmp_path, **settings)
