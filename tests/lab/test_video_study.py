"""Grid or video: figures of each look, paired differences by seed, and a study from end to end."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tideo.dollhouse.export import make
from tideo.lab.video_study import figures, page, video_study
from tideo.registry import load
from tideo.tiny.looks import LOOKS
from tideo.train.grid.config import GridTraining
from tideo.types import Sample, UserError, Video


def sample(name: str, kind: str, video: str) -> Sample:
    return Sample(
        id=name,
        video=Video(id=video, path=f"{video}.mp4"),
        question="what?",
        options=("a", "b"),
        answer=0,
        kind=kind,
    )


SAMPLES = [
    sample("1", "TN", "v"),
    sample("2", "Purpose", "v"),
    sample("3", "TN", "w"),
    sample("4", "DL", "w"),
]
USAGE = {"prompt_tokens": 80.0, "visual_tokens": 64.0, "seconds": 0.1}


def rates(*right: str) -> list[dict[str, float]]:
    """A seed each: the ids of the questions that are answered right."""
    return [{s.id: float(s.id in of_seed) for s in SAMPLES} for of_seed in right]


def test_differences_are_paired_and_given_by_seed() -> None:
    table = figures(
        SAMPLES,
        {"grid": rates("12", "123"), "video": rates("1", "1234")},
        blind={"grid": rates("1", ""), "video": rates("", "")},
        usage={"grid": [USAGE, USAGE | {"seconds": 0.3}], "video": [USAGE, USAGE]},
    )
    grid = table["looks"]["grid"]
    assert grid["by_seed"] == [0.5, 0.75]
    assert grid["by_group"]["temporal"]["accuracy"] == pytest.approx(0.75)
    assert grid["blind"]["accuracy"] == pytest.approx(0.125)
    assert (grid["visual_tokens"], grid["seconds_by_seed"]) == (64.0, [0.1, 0.3])
    assert list(table["differences"]) == ["video − grid"]
    difference = table["differences"]["video − grid"]["all"]
    assert difference["by_seed"] == [-0.25, 0.25]
    assert difference["difference"] == pytest.approx(0.0)
    low, high = difference["ci95_over_seeds"]
    assert (low, high) == (-1.0, 1.0)  # two seeds on either side of nothing say nothing
    text = page(table)
    assert "4 questions about 2 test videos, 2 seeds" in text
    assert "with the seeds held fixed" in text
    assert "| video − grid | all | +0.0 |" in text
    assert "-25.0, +25.0" in text


def test_one_seed_has_no_interval_over_seeds() -> None:
    table = figures(
        SAMPLES,
        {"grid": rates("12"), "video": rates("1")},
        blind={"grid": rates(""), "video": rates("")},
        usage={"grid": [USAGE], "video": [USAGE]},
    )
    assert table["differences"]["video − grid"]["all"]["ci95_over_seeds"] is None
    assert page(table)


def test_a_study_needs_a_seed(tmp_path: Path) -> None:
    recipe, start = load("recipes", "dollhouse_looks")(), load("recipes", "dollhouse_looks_start")()
    with pytest.raises(UserError, match="at least one seed"):
        video_study(recipe, start=start, out=tmp_path, seeds=0)


@pytest.mark.slow
def test_a_study_runs_and_what_is_there_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torchvision", "num2words"):
        pytest.importorskip(module, reason=f"its processor needs {module}: pip install 'tideo[vlm]'")
    monkeypatch.setattr("tideo.lab.tables.make", partial(make, seed=422))  # an episode of 11 seconds
    tiny = GridTraining(steps=1, batch=2, bf16=False)
    recipe = replace(load("recipes", "dollhouse_looks")(), num=2, train=tiny)
    start = replace(load("recipes", "dollhouse_looks_start")(), num=2, train=tiny)
    table = video_study(recipe, start=start, out=tmp_path, seeds=1, num=1)
    assert set(table["looks"]) == set(LOOKS)
    assert {row["visual_tokens"] for row in table["looks"].values()} == {64.0}
    assert len(table["differences"]) == 6
    written = tmp_path / "models" / "video_0" / "model.safetensors"
    before = written.stat().st_mtime_ns
    assert video_study(recipe, start=start, out=tmp_path, seeds=1, num=1) == table
    assert written.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another recipe"):
        video_study(replace(recipe, packed=1), start=start, out=tmp_path, seeds=1, num=1)
