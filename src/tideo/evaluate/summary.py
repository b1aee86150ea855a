"""Answers → the figures of a report: accuracy, by kind, beside its controls."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tideo.evaluate.answers import MAIN
from tideo.evaluate.benchmark import Score
from tideo.evaluate.grounding import grounding_figures
from tideo.evaluate.metrics import accuracy, difference, mean_of_kinds
from tideo.evaluate.option_order import ORDER, order_figures
from tideo.scoring import decide
from tideo.store.files import atomic_write_text
from tideo.types import Answer, Sample, UserError

REPORT_FILE = "report.json"
Answers = Mapping[str, Answer]  # by sample id


@dataclass(frozen=True, kw_only=True)
class Report:
    """report.json. Accuracies are shares of 1; a failure counts as wrong; intervals are clustered by video.

    `by_kind`, `by_group` and each of `controls` hold `n`, `accuracy`, `stderr`, `ci95`; a control also its
    own `by_kind`, `n_failed`, and `difference`, the result minus the control on the same questions. `mean_of_kinds`,
    the mean of the accuracies in `by_kind`, is how STAR and MVBench score.
    `by_group` splits the questions by `meta["held_out"]` where the benchmark has it.
    `n_strange` counts the videos unlike anything in the model's memory, `n_left_out` the questions that were left
    out because their video is missing. `failures`: video, error, and how many questions of the result failed by it.
    `evidence` says whether the frames show the answer, where the benchmark knows (evaluate/grounding.py).
    `orders` is there if the options were asked in every order (evaluate/option_order.py). `per_question` has the means
    of the result's `prompt_tokens` and `visual_tokens`, where the model counts them, and of the model's `seconds`.
    """

    benchmark: str
    split: str
    model: str
    n: int
    n_failed: int
    accuracy: float
    stderr: float
    ci95: tuple[float, float]
    by_kind: dict[str, dict[str, Any]]
    controls: dict[str, dict[str, Any]]
    run: dict[str, Any]
    mean_of_kinds: dict[str, Any] = field(default_factory=dict)
    by_group: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_strange: int = 0
    n_left_out: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    orders: dict[str, Any] = field(default_factory=dict)
    per_question: dict[str, float] = field(default_factory=dict)

    def save(self, directory: str | Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        atomic_write_text(Path(directory) / REPORT_FILE, text + "\n")


def headline(report: Report, *, score: Score) -> list[str]:
    """The lines of the figures that a benchmark is known by: the accuracy first, and its official score."""
    lines = [f"{report.accuracy:.1%} of {report.n} questions"]
    if len(report.by_kind) > 1 or score == "mean_of_kinds":
        lines.append(f"{report.mean_of_kinds['accuracy']:.1%}, the mean of {len(report.by_kind)} kinds")
    if score == "grounded" and report.evidence:
        lines.append(f"{report.evidence['right_and_grounded']['accuracy']:.1%} right and grounded")
    return lines


class Unscored(UserError):
    """All `n` questions have answers, `n_failed` of them errors, but no right answer is known, as of a test split."""

    def __init__(self, run_dir: Path, *, n: int, n_failed: int) -> None:
        super().__init__(
            f"{n} questions asked, no right answer known: tideo export {run_dir} --out FILE writes the choices"
        )
        self.n, self.n_failed = n, n_failed


def read_report(directory: str | Path) -> Report:
    """The report of a finished run, of an earlier version too. Raises UserError where there is none."""
    path = Path(directory) / REPORT_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["run"]["recipe"]  # missing in what is no record of a run
        return Report(**fields | {"ci95": tuple(fields["ci95"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{directory} holds no finished run ({REPORT_FILE} is missing or damaged): "
            "run tideo eval with it as --out (a split without known answers has none)"
        ) from error


def summarise_run(
    samples: Sequence[Sample],
    answers: Mapping[str, Answers],
    *,
    reduction: str,
    controls: Sequence[str],
    benchmark: str,
    model: str,
    run: Mapping[str, Any],
    n_strange: int = 0,
    n_left_out: int = 0,
) -> Report:
    """The report of a run's answers by control, chosen by `reduction`.

    Questions without a known answer are left out of every figure. Raises UserError where no question has one.
    """
    known = [s for s in samples if s.answer is not None]
    if not known:
        raise UserError(f"{benchmark}: no question has a known answer, so there is no accuracy to report")
    turns = {name: int(name.removeprefix(ORDER)) for name in answers if name.startswith(ORDER)}
    decided = {
        name: {s.id: decide(answers[name][s.id], reduction=reduction) for s in samples}
        for name in (MAIN, *controls, *turns)
    }
    main, in_order = decided[MAIN], {0: decided[MAIN], **{k: decided[name] for name, k in turns.items()}}
    result = figures(known, main)
    return Report(
        benchmark=benchmark,
        split=_split(known),
        model=model,
        n=result["n"],
        n_failed=num_failed(known, main),
        accuracy=result["accuracy"],
        stderr=result["stderr"],
        ci95=result["ci95"],
        by_kind=_figures_by_group(known, main, {s.id: s.kind for s in known}),
        mean_of_kinds=_mean_of_kinds(known, main),
        by_group=_figures_by_group(known, main, _groups(known)),
        controls={name: _control(known, main, decided[name]) for name in controls},
        n_strange=n_strange,
        n_left_out=n_left_out,
        failures=_failures(known, main),
        evidence=grounding_figures(known, main),
        orders=order_figures(samples, in_order) if turns else {},
        per_question=per_question(main[s.id] for s in known),
        run=dict(run),
    )


def figures(samples: Sequence[Sample], answers: Answers) -> dict[str, Any]:
    """n, accuracy, stderr, ci95 of these questions."""
    return dataclasses.asdict(accuracy(_correct(samples, answers), clusters=[s.video.id for s in samples]))


def per_question(answers: Iterable[Answer]) -> dict[str, float]:
    """The means of what the answers took, of those that say it and did not fail."""
    took = [a for a in answers if a.error is None]
    means = {}
    for name in ("prompt_tokens", "visual_tokens", "seconds"):
        values = [value for a in took if (value := getattr(a, name)) is not None]
        if values:
            means[name] = sum(values) / len(values)
    return means


def usage_line(means: Mapping[str, float]) -> str | None:
    """What a question took, in words; None where the model counts no tokens."""
    if "prompt_tokens" not in means:
        return None
    visual = f", {means['visual_tokens']:,.0f} of them visual" if "visual_tokens" in means else ""
    return f"{means['prompt_tokens']:,.0f} prompt tokens a question{visual}; {means['seconds']:.3g} s of the model"


def _mean_of_kinds(samples: Sequence[Sample], answers: Answers) -> dict[str, Any]:
    kinds, clusters = [s.kind for s in samples], [s.video.id for s in samples]
    return dataclasses.asdict(mean_of_kinds(_correct(samples, answers), kinds=kinds, clusters=clusters))


def compared(samples: Sequence[Sample], answers: Answers, other: Answers) -> dict[str, Any]:
    """n, difference, stderr, ci95, p of two results on the same questions."""
    pair = _correct(samples, answers), _correct(samples, other)
    return dataclasses.asdict(difference(*pair, clusters=[s.video.id for s in samples]))


def num_failed(samples: Sequence[Sample], answers: Answers) -> int:
    return sum(answers[s.id].error is not None for s in samples)


def _failures(samples: Sequence[Sample], answers: Answers) -> list[dict[str, Any]]:
    counts = Counter((s.video.id, answers[s.id].error) for s in samples if answers[s.id].error is not None)
    return [{"video": video, "error": error, "n": n} for (video, error), n in counts.items()]


def _correct(samples: Sequence[Sample], answers: Answers) -> list[bool]:
    return [answers[s.id].choice == s.answer for s in samples]


def _figures_by_group(
    samples: Sequence[Sample], answers: Answers, group_of: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.id in group_of:
            groups.setdefault(group_of[sample.id], []).append(sample)
    return {name: figures(group, answers) for name, group in groups.items()}


def _groups(samples: Sequence[Sample]) -> dict[str, str]:
    names = {True: "held out", False: "seen"}
    return {s.id: names[s.meta["held_out"]] for s in samples if "held_out" in s.meta}


def _control(samples: Sequence[Sample], answers: Answers, other: Answers) -> dict[str, Any]:
    return {
        **figures(samples, other),
        "by_kind": _figures_by_group(samples, other, {s.id: s.kind for s in samples}),
        "n_failed": num_failed(samples, other),
        "difference": compared(samples, answers, other),
    }


def _split(samples: Sequence[Sample]) -> str:
    return ", ".join(sorted({str(s.meta.get("split", "all")) for s in samples}))
