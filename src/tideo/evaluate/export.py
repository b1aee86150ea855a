"""A run's answers in the layouts that the benchmarks' own scripts and servers read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tideo import registry
from tideo.config import read_run
from tideo.evaluate.plan import MAIN, read_answers
from tideo.evaluate.scoring import decide
from tideo.store import atomic_write_text
from tideo.types import Sample, UserError

STAR_KINDS = ("Interaction", "Sequence", "Prediction", "Feasibility")
NO_CHOICE = -1  # of a question that failed: wrong everywhere, and no guess
Choices = Mapping[str, int]  # by sample id


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
    atomic_write_text(out, LAYOUTS.get(recipe["benchmark"], _csv)(samples, choices))
    return list(choices.values()).count(NO_CHOICE), len(choices)


def _nextqa(samples: Sequence[Sample], choices: Choices) -> str:
    # eval_mc.py reads every question of the file, and counts TP among TN by itself.
    return (
        json.dumps({s.id: {"prediction": choices[s.id], "answer": s.answer} for s in samples}, indent=1)
        + "\n"
    )


def _egoschema(samples: Sequence[Sample], choices: Choices) -> str:
    return json.dumps({s.id: choices[s.id] for s in samples}, indent=1) + "\n"


def _star(samples: Sequence[Sample], choices: Choices) -> str:
    """By type, as data_preparing/videoqa.py of yellow-binary-tree/HawkEye writes it for the server."""
    told: dict[str, list[dict[str, object]]] = {kind: [] for kind in STAR_KINDS}
    for sample in samples:
        told[sample.kind].append({"question_id": sample.id, "answer": choices[sample.id]})
    return json.dumps(told, indent=1) + "\n"


def _csv(samples: Sequence[Sample], choices: Choices) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "choice"])
    rows.writerows([s.id, choices[s.id]] for s in samples)
    return text.getvalue()


LAYOUTS: dict[str, Callable[[Sequence[Sample], Choices], str]] = {
    "nextqa": _nextqa,
    "egoschema": _egoschema,
    "star": _star,
}
