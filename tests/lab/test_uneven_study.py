"""The study of uneven frames asks each model once about each way to choose them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tideo.lab import uneven_study as study


@pytest.mark.slow
def test_a_study_goes_on_with_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = study.asked
    monkeypatch.setattr(study, "asked", lambda models, *a, **k: asked.extend(models) or ask(models, *a, **k))
    first = study.uneven_study(["dollhouse-topa"], out=tmp_path, samplers=["bolt"], num=2)
    assert list(first.rates) == ["main", "dollhouse-topa, bolt"]
    assert all(set(rates) == {s.id for s in first.samples} for rates in first.rates.values())
    both = study.uneven_study(["dollhouse-topa", "dollhouse-grid"], out=tmp_path, samplers=["bolt"], num=2)
    assert asked == ["dollhouse-topa", "dollhouse-grid"]
    assert both.rates["main"] == first.rates["main"]
    assert "| dollhouse-grid, bolt |" in (tmp_path / "table.md").read_text()
