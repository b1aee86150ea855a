"""The study of uneven frames asks each model once about each way to choose them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tideo.lab import uneven_study as study
from tideo.types import Sample, UserError, Video


@pytest.mark.slow
def test_a_study_goes_on_with_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = study.asked
    monkeypatch.setattr(study, "asked", lambda models, *a, **k: asked.extend(models) or ask(models, *a, **k))
    how: dict[str, Any] = {"out": tmp_path, "samplers": ["bolt"], "even": [0, 0.5], "num": 2}
    first = study.uneven_study(["dollhouse-topa"], **how)
    rows = [(row["model"], row["frames"], row["n"]) for row in first["rows"]]
    num = first["num_questions"]
    ways = ("middle", "bolt", "bolt, even=0.5")
    assert rows == [("dollhouse-topa", way, num) for way in ways]
    both = study.uneven_study(["dollhouse-topa", "dollhouse-grid"], **how)
    assert asked == ["dollhouse-topa", "dollhouse-grid"]
    assert both["rows"][:3] == first["rows"]
    assert "| dollhouse-grid | bolt, even=0.5 |" in (tmp_path / "table.md").read_text()


def test_the_table_compares_with_the_same_model_and_with_the_first() -> None:
    samples = [
        Sample(id=str(i), video=Video(id=str(i), path="v.mp4"), question="?", kind="TN") for i in range(4)
    ]

    def of(digits: str) -> dict[str, float]:
        return {str(i): float(digit) for i, digit in enumerate(digits)}

    figures = study.table(
        samples,
        {"a": {"middle": of("1110"), "bolt": of("1000")}, "b": {"middle": of("1111"), "bolt": of("1100")}},
    )
    rows = {(row["model"], row["frames"]): row for row in figures["rows"]}
    assert rows["b", "bolt"]["accuracy"] == rows["b", "bolt"]["temporal"] == 0.5
    assert rows["b", "bolt"]["minus_even"]["difference"] == -0.5
    assert rows["b", "bolt"]["minus_first"]["difference"] == 0.25
    assert rows["a", "bolt"]["minus_even"]["difference"] == -0.5
    text = study.page(figures)
    assert "| a | middle | 75.0 | 75.0 |  |  |" in text
    assert "| b | bolt | 50.0 | 50.0 | -50.0 (" in text


def test_a_share_that_cannot_be_ends_before_a_video_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="even=1: expected a share of the frames, at least 0 and below 1"):
        study.uneven_study(["dollhouse-topa"], out=tmp_path, even=[1], num=2)
    assert not list(tmp_path.iterdir())


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two models are named best: rename a folder"):
        study.uneven_study(["a/best", "b/best"], out=tmp_path, num=2)
    assert not list(tmp_path.iterdir())
