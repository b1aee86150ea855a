"""The models that ship: all there, small, free of places of the machine that made them, and better than guessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tideo.bundled import ASSETS
from tideo.evaluate.run import evaluate
from tideo.models.load import load_model, model_names
from tideo.types import UserError
from tiny import videos_in

NAMES = sorted(p.name for p in ASSETS.iterdir() if p.is_dir())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos_in(tmp_path_factory.getbasetemp())


def test_all_models_by_name_ship_with_a_card() -> None:
    assert {"dollhouse-topa", "dollhouse-grid", "dollhouse-fusion"} == set(model_names()) & set(NAMES)
    assert all(len(line) < 90 for line in model_names().values())
    assert all((ASSETS / name / "README.md").is_file() for name in NAMES)


@pytest.mark.parametrize("name", ["dollhouse-clip", "dollhouse-lm"])
def test_what_ships_and_does_not_answer_is_no_model(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown model '{name}'; did you mean"):
        load_model(name)


def test_a_folder_that_a_recipe_has_not_written_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(UserError, match=r"runs/dollhouse_distill is missing: a recipe writes it"):
        load_model("runs/dollhouse_distill")


def test_together_they_are_small() -> None:
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) < 40 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_a_place_of_the_machine_that_made_it(name: str) -> None:
    for path in (ASSETS / name).rglob("*.json"):
        if path.name != "tokenizer.json":
            text = path.read_text(encoding="utf-8")
            assert not any(f'"{start}' in text for start in ("/", "runs/", "../../")), path


@pytest.mark.parametrize(
    "name",
    ["dollhouse-topa", *(pytest.param(f"dollhouse-{n}", marks=pytest.mark.slow) for n in ("grid", "fusion"))],
)
def test_they_answer_better_than_chance(name: str, exported: Path, tmp_path: Path) -> None:
    report = evaluate(
        benchmark="dollhouse", data=exported, videos=exported / "videos", model=load_model(name), out=tmp_path,
        controls=[],
    )  # fmt: skip
    assert report.n_failed == 0
    assert report.accuracy > 0.35


def test_the_precision_enters_the_keys_of_blind() -> None:
    plain, half, same = (
        load_model("blind", args=["device=cpu", *a]).key for a in ([], ["dtype=fp16"], ["dtype=float16"])
    )
    assert plain != half == same
