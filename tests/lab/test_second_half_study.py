"""The study of TOPA's second half: figures of all conditions, and a study of tiny models from end to end."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tideo.dollhouse.export import make
from tideo.lab import second_half_study as study
from tideo.runs import read_run
from tideo.train.topa.config import PrealignConfig, PrealignTraining
from tideo.types import Sample, UserError, Video
from tiny import save_model


def sample(name: str, video: str) -> Sample:
    return Sample(
        id=name, video=Video(id=video, path=f"{video}.mp4"), question="what?", options=("a", "b"), answer=0
    )


def recipe(parts: Path = Path("parts")) -> PrealignConfig:
    return PrealignConfig(
        llm=str(parts / "llm"),
        encoder=str(parts / "clip"),
        tideos="dollhouse",
        prompt_style="plain",
        adapter="none",
        form="text",
        train=PrealignTraining(steps=1, batch=2, bf16=False),
    )


def test_figures_are_means_over_seeds_and_each_condition_meets_its_own() -> None:
    samples = [sample("1", "v"), sample("2", "w")]
    right, wrong, half = {"1": 1.0, "2": 1.0}, {"1": 0.0, "2": 0.0}, {"1": 1.0, "2": 0.0}
    rates = {f"{name}, {share:.0%}": [wrong, wrong] for name in study.VARIANTS for share in study.SHARES}
    rates |= {"text alone": [half], "after text, 10%": [right, half], "random weights, 100%": [half, half]}
    table = study.figures(samples, rates)
    assert table["seeds"] == 2
    assert table["conditions"]["after text, 10%"]["accuracy"] == pytest.approx(0.75)
    assert table["conditions"]["after text, 10%"]["by_seed"] == [1.0, 0.5]
    differences = {name: row["difference"] for name, row in table["differences"].items()}
    assert differences["after text, 10% − random weights, 10%"] == pytest.approx(0.75)
    assert differences["after text, 10% − random weights, 100%"] == pytest.approx(0.25)
    assert differences["after text, projected, 10% − random weights, 100%"] == pytest.approx(-0.5)
    assert len(differences) == 8
    assert table["differences"]["after text, 10% − random weights, 10%"]["by_seed"] == [1.0, 0.5]
    text = study.page(table)
    assert "| after text, 10% | 75.0 |" in text
    assert "| after text, 10% − random weights, 100% | +25.0 |" in text
    assert text.count("| +100.0, +50.0 |") == 1
    assert "2 test questions, 2 seeds." in text


def test_a_study_needs_a_seed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one seed"):
        study.second_half_study(recipe(), start="dollhouse-topa", out=tmp_path, seeds=0)


@pytest.mark.slow
def test_a_study_runs_goes_on_and_takes_no_model_of_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test episode of 11 seconds; the training has two episodes.
    for place in ("tideo.lab.tables.make", "tideo.lab.second_half_study.make"):
        monkeypatch.setattr(place, partial(make, seed=422))
    start = save_model(tmp_path / "parts", max_tokens=2048)
    out = tmp_path / "study"
    asked = partial(study.second_half_study, start=str(start), out=out, seeds=1, num=1)
    small = recipe(tmp_path / "parts")
    table = asked(small, train=2)
    assert next(iter(table["conditions"])) == "text alone"
    assert len(table["conditions"]) == 1 + len(study.VARIANTS) * len(study.SHARES)
    of = {folder.name: read_run(folder).recipe for folder in (out / "models").glob("*_0")}
    assert len(of) == 9
    assert of["random_weights_0.1_0"]["start"] is None
    assert (of["after_text_0.1_0"]["start"], of["after_text_0.1_0"]["project"]) == (str(start), False)
    assert of["after_text_projected_1_0"]["project"] is True
    assert of["after_text_projected_1_0"]["share"] == 1.0

    weights = out / "models" / "after_text_1_0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert asked(small, train=2) == table
    assert weights.stat().st_mtime_ns == before

    with pytest.raises(UserError, match=r"run of another recipe \(train.steps is 1 there and 2 here\)"):
        asked(replace(small, train=replace(small.train, steps=2)), train=2)
    with pytest.raises(UserError, match="did not learn from these 3 training episodes, but from others"):
        asked(small, train=3)
    assert asked(small, train=2) == table  # the attempts have changed nothing
