"""What the studies share: test questions, the share of seeds that answers each one right, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tideo.benchmarks.dollhouse import dollhouse
from tideo.dollhouse.export import make
from tideo.dollhouse.questions import DESCRIPTIVE, TEMPORAL
from tideo.dollhouse.script import Split
from tideo.evaluate.answers import MAIN, read_answers
from tideo.evaluate.metrics import accuracy, difference
from tideo.evaluate.run import evaluate
from tideo.models.interface import VideoModel
from tideo.scoring import decide
from tideo.types import Sample

GROUPS: dict[str, tuple[str, ...]] = {
    "all": (),
    "temporal": TEMPORAL,
    "before, after": ("TN", "TP"),
    "descriptive": DESCRIPTIVE,
    "purpose": ("Purpose",),
}
COMPARED = ("all", "temporal", "before, after")  # groups for which tables show differences from the result
Rates = Mapping[str, float]  # sample id → the share of seeds whose answer is right


@dataclass(frozen=True, kw_only=True)
class Study:
    """The test questions, and the rate of right answers under each condition; the result is the condition `main`."""

    samples: Sequence[Sample]
    rates: Mapping[str, Rates]
    by_seed: Mapping[str, Sequence[float]]


def study_of(samples: Sequence[Sample], runs: Mapping[str, Sequence[Rates]]) -> Study:
    """The study of these runs: condition → the rates of each seed."""
    return Study(
        samples=samples,
        rates={name: mean_rates(of_seed) for name, of_seed in runs.items()},
        by_seed={name: [sum(r.values()) / len(r) for r in of_seed] for name, of_seed in runs.items()},
    )


def questions_of(split: Split, *, num: int, out: Path, videos: bool = True) -> list[Sample]:
    """The questions about `num` episodes, which are written to OUT/SPLIT; `videos=False` renders none of them."""
    make(split=split, num=num, out=out / split, videos=videos)
    return dollhouse(out / split, videos=out / split / "videos")


def evaluated(
    model: VideoModel,
    split: Split,
    samples: Sequence[Sample],
    *,
    out: Path,
    run: str,
    controls: list[str] | None,
) -> dict[str, Rates]:
    """1 or 0 for each question under each control. The answers are in OUT/eval/RUN; missing ones are computed."""
    folder = out / "eval" / run
    evaluate(
        benchmark="dollhouse", data=out / split, videos=out / split / "videos", model=model, out=folder,
        controls=controls,
    )  # fmt: skip
    return rates_in(folder, samples, reduction=model.settings.reduction)


def rates_in(folder: Path, samples: Sequence[Sample], *, reduction: str) -> dict[str, Rates]:
    """1 or 0 for each question under each control, from the answers of a run directory."""
    answers, _ = read_answers(folder)
    return {
        name: {s.id: float(decide(by_id[s.id], reduction=reduction).choice == s.answer) for s in samples}
        for name, by_id in answers.items()
    }


def mean_rates(runs: Sequence[Rates]) -> Rates:
    """The mean over runs, for each question."""
    return {sample: sum(rates[sample] for rates in runs) / len(runs) for sample in runs[0]}


def table(study: Study) -> dict[str, Any]:
    """The figures of table.json, accuracies as shares of 1."""
    main = study.rates[MAIN]
    by_group = {name: of_kinds(study.samples, kinds) for name, kinds in GROUPS.items()}
    groups = {name: samples for name, samples in by_group.items() if samples}
    conditions = {
        name: {
            "by_seed": list(study.by_seed[name]),
            "by_group": {g: _figures(samples, rates) for g, samples in groups.items()},
            "by_kind": {
                kind: _figures(of_kinds(study.samples, (kind,)), rates)
                for kind in sorted({s.kind for s in study.samples})
            },
            "less_than_result": {g: difference_of(samples, main, rates) for g, samples in groups.items()},
        }
        for name, rates in study.rates.items()
    }
    parts = {"held_out": True, "seen": False}
    held = {
        name: [s for s in study.samples if s.meta.get("held_out") is flag] for name, flag in parts.items()
    }
    return {
        "num_questions": len(study.samples),
        "num_videos": len({s.video.id for s in study.samples}),
        "seeds": len(study.by_seed[MAIN]),
        "conditions": conditions,
        "by_held_out": {name: _figures(samples, main) for name, samples in held.items() if samples},
    }


def markdown(figures: Mapping[str, Any], *, trained: str, result: str) -> str:
    """table.md: conditions and their differences from the result, kinds of questions, held-out combinations.

    `trained` is the step that has seeds; `result` is the title of the condition `main`.
    """
    lines = [
        f"{figures['num_questions']:,} questions about {figures['num_videos']} test videos, "
        f"{figures['seeds']} seeds of {trained}; 95% intervals clustered by video.",
        "",
        _row(
            "condition",
            "all",
            "95% interval",
            *list(GROUPS)[1:],
            *(f"result minus it, {g}" for g in COMPARED),
        ),
        "|---" * (2 + len(GROUPS) + len(COMPARED)) + "|",
    ]
    for name, condition in figures["conditions"].items():
        groups, less = condition["by_group"], condition["less_than_result"]
        cells = [f"{100 * groups[g]['accuracy']:.1f}" if g in groups else "" for g in GROUPS]
        cells.insert(1, _interval(groups["all"]))
        cost = (
            [""] * len(COMPARED) if name == MAIN else [signed(less[g]) if g in less else "" for g in COMPARED]
        )
        title = f"**{result}**" if name == MAIN else name.replace("_", " ")
        if len(condition["by_seed"]) != figures["seeds"]:
            title += f" ({len(condition['by_seed'])} of the seeds)"
        lines.append(_row(title, *cells, *cost))
    main = figures["conditions"][MAIN]
    blind = figures["conditions"].get("blind", {"by_kind": {}})["by_kind"]
    seeds = ", ".join(f"{100 * a:.1f}" for a in main["by_seed"])
    lines += [
        "",
        f"The result by seed: {seeds}.",
        "",
        "| kind | n | result | 95% interval | blind |",
        "|---|---|---|---|---|",
    ]
    for kind, result_of in main["by_kind"].items():
        without = f"{100 * blind[kind]['accuracy']:.1f}" if kind in blind else ""
        lines.append(
            f"| {kind} | {result_of['n']} | {100 * result_of['accuracy']:.1f} | {_interval(result_of)} | {without} |"
        )
    lines += [
        "",
        "Of combinations of activity, room and actor: "
        + "; ".join(
            f"{name.replace('_', ' ')} {_accuracy(part)}" for name, part in figures["by_held_out"].items()
        )
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def of_kinds(samples: Sequence[Sample], kinds: tuple[str, ...]) -> list[Sample]:
    """The samples of these kinds; all samples if no kind is given."""
    return [s for s in samples if not kinds or s.kind in kinds]


def _figures(samples: Sequence[Sample], rates: Rates) -> dict[str, Any]:
    return asdict(accuracy([rates[s.id] for s in samples], clusters=[s.video.id for s in samples]))


def difference_of(samples: Sequence[Sample], rates: Rates, other: Rates) -> dict[str, Any]:
    """The paired difference of two conditions over these questions."""
    pair = [rates[s.id] for s in samples], [other[s.id] for s in samples]
    paired = difference(*pair, clusters=[s.video.id for s in samples])
    return {"difference": paired.difference, "stderr": paired.stderr, "ci95": list(paired.ci95)}


def _interval(estimate: Mapping[str, Any]) -> str:
    return f"{100 * estimate['ci95'][0]:.1f} to {100 * estimate['ci95'][1]:.1f}"


def signed(estimate: Mapping[str, Any]) -> str:
    """A difference in points with its interval."""
    return f"{100 * estimate['difference']:+.1f} ({_interval(estimate)})"


def _accuracy(mean: Mapping[str, Any]) -> str:
    return f"{100 * mean['accuracy']:.1f} ({_interval(mean)}, {mean['n']} questions)"
