"""A run's answers in the layouts that the benchmarks' own scripts and servers read."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tideo.benchmarks.annotations import COLUMNS, NO_CHOICE, Answered
from tideo.evaluate.answers import MAIN, read_answers
from tideo.evaluate.benchmark import load_benchmark
from tideo.runs import read_run
from tideo.scoring import decide
from tideo.store.files import atomic_write_text
from tideo.types import Sample, UserError

log = logging.getLogger(__name__)


def export(run_dir: str | Path, *, out: str | Path) -> tuple[int, int]:
    """Write the choices of a run; returns how many questions have none, as they failed, and of how many.

    The benchmark's file has the layout (`export`); without one it is csv with id and choice. Options count from 0,
    empty ones of the file included. A question left out by `missing="skip"` has no line in the csv file; a layout that
    needs every question has NO_CHOICE for it. Raises UserError if another question has no answer yet, and for
    descriptions, which are no choices.
    """
    recipe = read_run(run_dir).recipe
    benchmark = load_benchmark(recipe["benchmark"])
    if benchmark.describes:
        raise UserError(
            f"{run_dir} holds descriptions of {benchmark.name}, no choices: export a run with questions"
        )
    samples = benchmark.read(recipe["data"], videos=recipe["videos"])[: recipe["limit"]]
    answers = read_answers(run_dir)[0].get(MAIN, {})
    answered = [s for s in samples if s.id in answers]
    skips, left_out = recipe.get("missing") == "skip", [s for s in samples if s.id not in answers]
    waiting = [s for s in left_out if not skips or os.path.exists(s.video.path)]
    if waiting or not answered:
        num = len(waiting or left_out)
        raise UserError(
            f"{run_dir}: {num} of {len(samples)} questions have no answer yet: run tideo eval again"
        )
    decided = {s.id: decide(answers[s.id], reduction=recipe["reduction"]).choice for s in answered}
    choices = Answered({s.id: _in_file(s, decided[s.id]) for s in answered})
    atomic_write_text(out, benchmark.export(samples, choices))
    if left_out:
        log.warning(
            "%d of %d questions were not asked, as their videos were missing: the file has no choice for them",
            len(left_out), len(samples),
        )  # fmt: skip
    return list(choices.values()).count(NO_CHOICE), len(choices)


def _in_file(sample: Sample, choice: int | None) -> int:
    """The number that the option has in the benchmark's file, where options may be empty."""
    if choice is None:
        return NO_CHOICE
    return int(sample.meta.get(COLUMNS, range(len(sample.options)))[choice])
