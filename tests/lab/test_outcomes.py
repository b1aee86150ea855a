"""The outcomes of a study's models, in small files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tideo.lab.outcomes import Outcome, Outcomes, chosen
from tideo.types import Sample, UserError, Video

SAMPLES = [
    Sample(id=name, video=Video(id=name, path=""), question="what?", options=("a", "b"), answer=0)
    for name in "xyz"
]
OUTCOME = Outcome(rates={"main": {"z": 1.0, "x": 1.0, "y": 0.0}}, figures={"reading": 0.75})
ABOUT = {"lr": 0.1}


def test_what_was_kept_is_found_on_another_machine(tmp_path: Path) -> None:
    here = Outcomes(tmp_path / "here", SAMPLES)
    assert here.kept("recipe_0", about=ABOUT) is None
    assert here.keep("recipe_0", OUTCOME, about=ABOUT) == OUTCOME
    (tmp_path / "here").rename(tmp_path / "there")
    assert Outcomes(tmp_path / "there", SAMPLES).kept("recipe_0", about=ABOUT) == OUTCOME
    file = tmp_path / "there" / "recipe_0.json"
    assert json.loads(file.read_text())["right"] == {"main": "101"}


@pytest.mark.parametrize("changed", ["recipe", "question"])
def test_an_outcome_of_something_else_is_an_error(changed: str, tmp_path: Path) -> None:
    Outcomes(tmp_path, SAMPLES).keep("recipe_0", OUTCOME, about=ABOUT)
    samples = SAMPLES if changed == "recipe" else [replace(SAMPLES[0], question="who?"), *SAMPLES[1:]]
    about = {"lr": 0.2} if changed == "recipe" else ABOUT
    with pytest.raises(UserError, match=r"recipe_0\.json is of another recipe or of other questions"):
        Outcomes(tmp_path, samples).kept("recipe_0", about=about)


def test_a_setting_at_its_default_is_left_out() -> None:
    @dataclass
    class Training:
        steps: int
        lr: float = 0.1
        betas: tuple[float, float] = (0.9, 0.99)

    @dataclass
    class Recipe:
        train: Training | None = None
        modules: tuple[str, ...] = ()
        kinds: list[str] = field(default_factory=list)

    assert chosen(Recipe()) == {}
    assert chosen(Recipe(train=Training(steps=3))) == {"train": {"steps": 3}}
    recipe = Recipe(train=Training(steps=3, lr=0.2), modules=("llm",), kinds=["a"])
    assert chosen(recipe) == {"train": {"steps": 3, "lr": 0.2}, "modules": ["llm"], "kinds": ["a"]}
