"""A run's answers in the layouts that the benchmarks' own scripts and servers read."""

from __future__ import annotations

from pathlib import Path

from tideo.benchmarks.annotations import NO_CHOICE
from tideo.evaluate.answers import MAIN, read_answers
from tideo.evaluate.benchmark import load_benchmark
from tideo.runs import read_run
from tideo.scoring import decide
from tideo.store.files import atomic_write_text
from tideo.types import UserError


def export(run_dir: str | Path, *, out: str | Path) -> tuple[int, int]:
    """Write the choices of a finished run; returns how many questions have none, as they failed, and of how many.

    The benchmark's file has the layout (`export`); without, it is csv with id and choice. Options count from 0. Raises
    UserError if a question has no answer yet, and for descriptions, which are no choices.
    """
    recipe = read_run(run_dir).recipe
    benchmark = load_benchmark(recipe["benchmark"])
    if benchmark.describes:
        raise UserError(
            f"{run_dir} holds descriptions of {benchmark.name}, no choices: export a run with questions"
        )
    samples = benchmark.read(recipe["data"], videos=recipe["videos"])[: recipe["limit"]]
    answers = read_answers(run_dir)[0].get(MAIN, {})
    if missing := sum(s.id not in answers for s in samples):
        raise UserError(
            f"{run_dir}: {missing} of {len(samples)} questions have no answer yet: run tideo eval again"
        )
    decided = {s.id: decide(answers[s.id], reduction=recipe["reduction"]).choice for s in samples}
    choices = {i: NO_CHOICE if choice is None else choice for i, choice in decided.items()}
    atomic_write_text(out, benchmark.export(samples, choices))
    return list(choices.values()).count(NO_CHOICE), len(choices)
