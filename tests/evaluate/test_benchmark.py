"""What a benchmark's file decides: its reader, official score, export and Tideos; and which controls it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tideo.benchmarks.annotations import choices_csv
from tideo.evaluate.answers import MAIN
from tideo.evaluate.benchmark import load_benchmark
from tideo.evaluate.controls import choose_controls
from tideo.evaluate.run import evaluate
from tideo.evaluate.summary import headline, summarise_run, usage_line
from tideo.models.interface import Controls, VideoModel
from tideo.types import Answer, Sample, UserError, Video


class Reader(VideoModel):
    """A model that can be shown captions."""

    name = "reader"
    controls = frozenset({"source"})

    def answer(self, video: Video, samples: object, **_: object) -> list[Answer]:
        return []


def test_a_file_names_its_score_and_its_export() -> None:
    scores = {name: load_benchmark(name).score for name in ("nextqa", "star", "mvbench", "nextgqa", "vatex")}
    assert scores == {
        "nextqa": "accuracy", "star": "mean_of_kinds", "mvbench": "mean_of_kinds", "nextgqa": "grounded",
        "vatex": "cider",
    }  # fmt: skip
    assert load_benchmark("csv").export is choices_csv
    assert load_benchmark("star").export is not choices_csv
    with pytest.raises(UserError, match="unknown benchmark 'nextqaa'; did you mean nextqa"):
        load_benchmark("nextqaa")


def test_a_file_explains_its_kinds() -> None:
    kinds = {name: load_benchmark(name).kinds for name in ("nextqa", "intentqa", "nextgqa", "star", "csv")}
    assert kinds["nextqa"]["CW"] == kinds["intentqa"]["CW"] == kinds["nextgqa"]["CW"] == "why"
    assert set(kinds["nextqa"]) == {"CW", "CH", "TN", "TC", "TP", "DC", "DL", "DO"}
    assert set(kinds["star"]) == {"Interaction", "Sequence", "Prediction", "Feasibility"}
    assert kinds["csv"] == {}


def test_text_features_go_with_a_benchmark_that_has_captions() -> None:
    meta = {"episode": {"split": "val", "index": 0, "seed": 0}}
    samples = [Sample(id="q", video=Video(id="v", path=""), question="?", options=("a", "b"), meta=meta)]
    dollhouse, own = load_benchmark("dollhouse"), load_benchmark("csv")
    assert choose_controls(None, samples, model=Reader(), benchmark=dollhouse) == {
        "text_features": Controls(source="text")
    }
    assert choose_controls(None, samples, model=Reader(), benchmark=own) == {}
    with pytest.raises(UserError, match="text_features needs the captions of the frames, which csv has not"):
        choose_controls(["text_features"], samples, model=Reader(), benchmark=own)


def test_only_descriptions_need_their_scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise UserError("no scorers")

    monkeypatch.setattr("tideo.evaluate.run.scorers", missing)
    arguments = {"data": tmp_path, "videos": tmp_path, "model": Reader(), "out": tmp_path / "out"}
    with pytest.raises(UserError, match="no scorers"):  # before anything is read
        evaluate(benchmark="vatex", **arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"expected a file that ends with \.csv"):
        evaluate(benchmark="csv", **arguments)  # type: ignore[arg-type]


def test_the_official_score_is_printed() -> None:
    samples = [
        Sample(
            id=f"q{i}", video=Video(id=f"v{i}", path=""), question="?", options=("a", "b"), answer=0, kind=kind,
            evidence_s=((0.0, 1.0),),
        )
        for i, kind in enumerate(("why", "how", "how"))
    ]  # fmt: skip
    answers = {s.id: Answer(sample_id=s.id, choice=int(s.kind == "how"), pts_s=(0.5, 2.0)) for s in samples}
    about: Any = {"reduction": "mean", "controls": [], "benchmark": "b", "model": "m", "run": {}}
    report = summarise_run(samples, {MAIN: answers}, **about)
    plain = ["33.3% of 3 questions", "50.0%, the mean of 2 kinds"]
    assert headline(report, score="accuracy") == headline(report, score="mean_of_kinds") == plain
    assert headline(report, score="grounded") == [*plain, "33.3% right and grounded"]
    assert usage_line(report.per_question) is None
    took = {"prompt_tokens": 1100, "visual_tokens": 1024, "seconds": 0.25}
    counted = {s.id: replace(answers[s.id], **took) for s in samples}
    counted["q0"] = replace(counted["q0"], error="too long", seconds=9.0)
    counted["q1"] = replace(counted["q1"], prompt_tokens=1102)
    means = summarise_run(samples, {MAIN: counted}, **about).per_question
    assert means == {"prompt_tokens": 1101, "visual_tokens": 1024, "seconds": 0.25}
    line = "1,101 prompt tokens a question, 1,024 of them visual; 0.25 s of the model"
    assert usage_line(means) == line
    one = summarise_run(samples[:1], {MAIN: answers}, **about)
    assert headline(one, score="accuracy") == ["100.0% of 1 questions"]
