"""The sampler court: its intervals, its table, and that a court goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tideo.benchmarks.dollhouse import dollhouse
from tideo.dollhouse.export import make
from tideo.encoders.relevance import Chooser
from tideo.lab.court_frames import frames_of
from tideo.lab.court_table import Cell, page, paired_bootstrap, table
from tideo.lab.sampler_court import court
from tideo.types import UserError
from tideo.video.pool import PoolSettings


def cell(sampler: str, hits: list[int | None], *, seconds: int = 60) -> Cell:
    rows: list[dict[str, Any]] = [
        {"id": f"q{i}", "video": f"v{i // 2}", "kind": "CH", "hit": hit, "text_only": hit or 0, "grid": 1}
        for i, hit in enumerate(hits)
    ]
    pool_s = 0.0 if sampler == "middle" else 2.0
    return Cell(seconds=seconds, budget=16, sampler=sampler, look_s=0.5, pool_s=pool_s, rows=rows)


def test_an_interval_draws_whole_videos() -> None:
    assert paired_bootstrap([1, 1, 1, 1], clusters=["a", "a", "b", "b"]) == (1.0, 1.0)
    assert paired_bootstrap([1, 1, -1, -1], clusters=["a", "a", "b", "b"]) == (-1.0, 1.0)
    alone = paired_bootstrap([1, 1, -1, -1] * 25, clusters=range(100))
    by_video = paired_bootstrap([1, 1, -1, -1] * 25, clusters=[i // 2 for i in range(100)])
    assert alone[1] - alone[0] < by_video[1] - by_video[0]
    assert by_video[0] < 0 < by_video[1]


def test_the_table_compares_the_same_questions() -> None:
    figures = table([cell("middle", [1, 0, 0, None]), cell("bolt", [1, 1, 0, None])])
    assert [f["hit"] for f in figures] == pytest.approx([1 / 3, 2 / 3])
    assert "hit_minus_middle" not in figures[0]
    assert figures[1]["hit_minus_middle"]["difference"] == pytest.approx(1 / 3)
    assert figures[1]["grid_minus_middle"] == {"difference": 0.0, "ci95": [0.0, 0.0]}
    lines = page(figures).splitlines()
    assert lines[:6] == [
        "16 frames: evidence recall, text-only, grid, in percent",
        "",
        "| sampler | 1 min |",
        "|---|---|",
        "| middle | 33 · 25 · 100 |",
        "| bolt | 67 · 50 · 100 |",
    ]
    assert lines[-2] == "| 1 min | 16 | middle | 4 (2) | 33.3 | 25.0 | 100.0 | 0.50 |  |"
    assert lines[-1].startswith("| 1 min | 16 | bolt | 4 (2) | 66.7 (+33.3: ")
    assert lines[-1].endswith("| 0.50 | 2.0 |")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budgets": [9]}, "unknown budget 9: expected some of 8, 16, 32"),
        ({"samplers": ["bold"]}, "unknown sampler bold: expected some of middle, uniform"),
        ({"days": [0]}, "a split of 0 episodes: expected at least 1"),
        ({"days": [1, 2]}, "2 numbers of days for 1 lengths: expected one, or one of each"),
        ({"lengths_s": [5]}, "a day of 5 s: expected 10 to 10800 s"),
    ],
)
def test_what_no_court_has_is_an_error(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        court(out=tmp_path / "out", **({"lengths_s": [10]} | wrong))


@pytest.mark.slow
def test_frames_of_a_selector_are_those_that_a_model_sees(tmp_path: Path) -> None:
    make(split="test", num=1, seconds=60, out=tmp_path)
    samples = dollhouse(tmp_path, videos=tmp_path / "videos")
    shown, look_s = frames_of(samples, sampler="bolt", num=8, pools=tmp_path / "pools")
    assert look_s > 0
    assert len({tuple(frames.pts_s_T) for frames in shown}) > 1
    choosing = Chooser("dollhouse-clip", sampler="bolt", settings=PoolSettings())
    for sample, frames in zip(samples, shown, strict=True):
        expected = choosing.frames(sample.video, 8, question=sample.question)
        assert frames.bounds_s == expected.bounds_s
        np.testing.assert_array_equal(frames.pts_s_T, expected.pts_s_T)
        np.testing.assert_array_equal(frames.rgb_THWC, expected.rgb_THWC)
    of_evidence, _ = frames_of(samples, sampler="oracle", num=8, pools=tmp_path / "pools")
    assert {frames.bounds_s for frames in of_evidence} == {shown[0].bounds_s}


@pytest.mark.slow
def test_a_court_runs_and_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"lengths_s": [60], "budgets": [8], "days": [1]}
    cells = court(out=tmp_path, samplers=["middle", "aks", "oracle"], **settings)
    by_sampler = {c.sampler: c for c in cells}
    assert all(row["hit"] in (1, None) for row in by_sampler["oracle"].rows)
    assert by_sampler["aks"].pool_s > 0 == by_sampler["middle"].pool_s
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
    drawn = (tmp_path / "plot.svg").read_bytes()
    assert court(out=tmp_path, samplers=["middle", "aks", "oracle"], **settings) == cells
    assert (tmp_path / "plot.svg").read_bytes() == drawn
    units = {path: path.stat().st_mtime_ns for path in (tmp_path / "units").rglob("*.json")}
    more = court(out=tmp_path, samplers=["middle", "aks", "oracle", "uniform"], **settings)
    assert [c for c in more if c.sampler != "uniform"] == cells
    assert all(path.stat().st_mtime_ns == before for path, before in units.items())
    two = court(out=tmp_path, samplers=["aks"], **settings | {"days": [2]})
    assert [row for row in two[0].rows if row in by_sampler["aks"].rows] == by_sampler["aks"].rows
    assert len({row["video"] for row in two[0].rows}) == 2
    path = next(iter(units))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "another"}))
    with pytest.raises(UserError, match="is of other questions: remove it, or give another --out"):
        court(out=tmp_path, samplers=["middle", "aks", "oracle"], **settings)
