"""A run's answers in the layouts that the benchmarks' own scripts and servers read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tideo import registry
from tideo.benchmarks.annotations import NO_CHOICE, Choices, choices_csv
from tideo.benchmarks.egoschema import _egoschema
from tideo.benchmarks.nextqa import _nextqa
from tideo.benchmarks.star import _star
from tideo.evaluate.answers import MAIN, read_answers
from tideo.runs import read_run
from tideo.scoring import decide
from tideo.store.files import atomic_write_text
from tideo.types import Sample, UserError


def export(run_dir: str | Path, *, out: str | Path) -> tuple[int, int]:
    """Write the choices of a finished run; returns how many questions have none, as they failed, and of how many.

    `nextqa`: for eval_mc.py of doc-doc/NExT-QA; `egoschema`: for its validation server, {q_uid: option}; `star`: for
    its challenge on EvalAI; any other benchmark: csv with id and choice. Options count from 0. Raises UserError where
    a question has no answer yet.
    """
    recipe = read_run(run_dir).recipe
    read = registry.load("benchmarks", recipe["benchmark"])
    samples: list[Sample] = read(recipe["data"], videos=recipe["videos"])[: recipe["limit"]]
    answers = read_answers(run_dir)[0].get(MAIN, {})
    if missing := sum(s.id not in answers for s in samples):
        raise UserError(
            f"{run_dir}: {missing} of {len(samples)} questions have no answer yet: run tideo eval again"
        )
    decided = {s.id: decide(answers[s.id], reduction=recipe["reduction"]).choice for s in samples}
    choices = {i: NO_CHOICE if choice is None else choice for i, choice in decided.items()}
    atomic_write_text(out, LAYOUTS.get(recipe["benchmark"], choices_csv)(samples, choices))
    return list(choices.values()).count(NO_CHOICE), len(choices)


LAYOUTS: dict[str, Callable[[Sequence[Sample], Choices], str]] = {
    "nextqa": _nextqa,
    "egoschema": _egoschema,
    "star": _star,
}
