"""The line that says how far a stream has come."""

from __future__ import annotations

import pytest

from tideo import tally as module
from tideo.tally import Tally, staged, stages_line


def test_a_line_has_rate_workers_and_queue_of_each_stage() -> None:
    now = {"decode": (1200, 3), "encode": (1100, 1), "write": (1000, 1)}
    before = {"decode": 1000, "encode": 1000, "write": 1000}
    line = stages_line(before, now, total=20_000, seconds=10)
    assert line == (
        "1,000 of 20,000 · decode 20.0/s (3 at work, 18,800 waiting) · encode 10.0/s (100 waiting) · "
        "write 0.0/s (100 waiting)"
    )
    assert stages_line({}, {"write": (0, 0)}, total=5, seconds=0) == "0 of 5 · write 0.0/s (5 waiting)"


def test_units_and_workers_add_up_and_counts_of_elsewhere_count() -> None:
    tally = Tally("decode", "encode", "write")
    tally.add("write", 2)
    tally.add("write", 3)
    assert tally.counts() == {"decode": (0, 0), "encode": (0, 0), "write": (5, 1)}
    with tally.with_counts_of(lambda: {"encode": (7, 2), "decode": (9, 4)}):
        assert list(tally.counts().items()) == [("decode", (9, 4)), ("encode", (7, 2)), ("write", (5, 1))]
    for worker in ("a", "b", "a"):
        tally.add("encode", 1, worker)
    assert tally.counts()["encode"] == (3, 2)


def test_without_a_terminal_there_are_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LINE_S", 0.0)
    monkeypatch.setattr(module, "STEP_S", 0.01)
    tally = Tally("write")
    tally.add("write", 1)
    with staged(tally, total=2):
        while "1 of 2 · write" not in capsys.readouterr().err:
            pass
