"""The zero-shot table: means over seeds, paired differences, and a study of tiny models from end to end."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tideo.dollhouse.export import make
from tideo.lab.tables import Study, table
from tideo.lab.topa_study import page, zero_shot_study
from tideo.train.topa.config import PrealignConfig, PrealignTraining
from tideo.types import Sample, UserError, Video
from tiny import save_clip, save_llm


def sample(name: str, kind: str, video: str, *, held_out: bool = False) -> Sample:
    return Sample(
        id=name,
        video=Video(id=video, path=f"{video}.mp4"),
        question="what?",
        options=("a", "b"),
        answer=0,
        kind=kind,
        meta={"held_out": held_out},
    )


SAMPLES = [sample("1", "TN", "v"), sample("2", "DL", "v"), sample("3", "TN", "w", held_out=True)]


def test_figures_are_means_over_seeds_and_differences_are_paired() -> None:
    study = Study(
        samples=SAMPLES,
        rates={"main": {"1": 1.0, "2": 0.5, "3": 0.0}, "blind": {"1": 0.0, "2": 0.5, "3": 0.0}},
        by_seed={"main": [2 / 3, 1 / 3], "blind": [1 / 6, 1 / 6]},
    )
    figures = table(study)
    main, blind = figures["conditions"]["main"], figures["conditions"]["blind"]
    assert main["by_group"]["all"]["accuracy"] == pytest.approx(0.5)
    assert main["by_group"]["temporal"]["accuracy"] == pytest.approx(0.5)
    assert blind["less_than_result"]["all"]["difference"] == pytest.approx(1 / 3)
    assert blind["less_than_result"]["temporal"]["difference"] == pytest.approx(0.5)
    assert {name: part["accuracy"] for name, part in figures["by_held_out"].items()} == {
        "held_out": 0.0,
        "seen": 0.75,
    }
    text = page(study, {"text": 0.6, "letter": 0.2})
    assert "3 questions about 2 test videos, 2 seeds" in text
    assert "The result by seed: 66.7, 33.3." in text
    assert "letter scoring 20.0" in text


def test_a_study_needs_a_seed(tmp_path: Path) -> None:
    recipe = PrealignConfig(llm="l", encoder="e", tideos="t", train=PrealignTraining(steps=1))
    with pytest.raises(UserError, match="at least one seed"):
        zero_shot_study(recipe, out=tmp_path, seeds=0)


@pytest.mark.slow
def test_a_study_runs_and_what_is_there_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Test and validation episode of 11 and 10 seconds.
    monkeypatch.setattr("tideo.lab.tables.make", partial(make, seed=422))
    save_clip(tmp_path / "clip")
    save_llm(tmp_path / "llm", max_tokens=2048)
    recipe = PrealignConfig(
        llm=str(tmp_path / "llm"),
        encoder=str(tmp_path / "clip"),
        tideos="dollhouse",
        num_tideos=4,
        prompt_style="plain",
        adapter="none",
        memory="frames",
        form="text",
        train=PrealignTraining(steps=1, batch=2, bf16=False),
    )
    out = tmp_path / "study"
    study, validation = zero_shot_study(recipe, out=out, seeds=1, num=1, num_val=1)
    assert {"main", "no_choosing", "blind", "projection_off", "text_features"} <= set(study.rates)
    written = (out / "table.md").read_text()
    assert written == page(study, validation)
    before = (out / "models" / "full_0" / "model.safetensors").stat().st_mtime_ns
    again, _ = zero_shot_study(replace(recipe, num_tideos=4), out=out, seeds=1, num=1, num_val=1)
    assert again.rates == study.rates
    with pytest.raises(
        UserError, match=r"full_0 is a run of another recipe \(num_tideos is 4 there and 5 here\)"
    ):
        zero_shot_study(replace(recipe, num_tideos=5), out=out, seeds=1, num=1, num_val=1)
    assert (out / "models" / "full_0" / "model.safetensors").stat().st_mtime_ns == before
