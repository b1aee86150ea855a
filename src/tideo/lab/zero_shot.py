"""The zero-shot table: pre-align with several seeds, ask about rendered test videos, put controls beside the result.

    python -m tideo.lab.zero_shot --out runs/zero_shot --seeds 3 --num 90

Per seed one pre-alignment as the recipe has it and, unless --no-ablation, one without the multi-choice task, then every
control. What is
there is not made again, so a killed study goes on. Writes OUT/table.md and OUT/table.json. Figures are means over
seeds; intervals are clustered by video and tell how sure the mean over these seeds is of other videos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tideo import registry
from tideo.benchmarks.dollhouse import dollhouse
from tideo.dollhouse.export import make
from tideo.dollhouse.questions import DESCRIPTIVE, TEMPORAL
from tideo.dollhouse.script import Split
from tideo.evaluate.metrics import accuracy, difference
from tideo.evaluate.plan import MAIN, read_answers
from tideo.evaluate.run import evaluate
from tideo.evaluate.scoring import decide
from tideo.models.settings import SETTINGS_FILE, Settings
from tideo.store import atomic_write_text
from tideo.train.prealign import PrealignConfig, prealign
from tideo.types import Sample, UserError

FULL, NO_CHOOSING = "full", "no_choosing"
GROUPS: dict[str, tuple[str, ...]] = {
    "all": (),
    "temporal": TEMPORAL,
    "descriptive": DESCRIPTIVE,
    "purpose": ("Purpose",),
}
Rates = Mapping[str, float]  # by sample id: the share of seeds that answered right


@dataclass(frozen=True, kw_only=True)
class Study:
    """The test questions, and how often each was answered right under each condition."""

    samples: Sequence[Sample]
    rates: Mapping[str, Rates]
    by_seed: Mapping[str, Sequence[float]]
    validation: Mapping[str, float]  # form of the options → accuracy


def zero_shot_study(
    recipe: PrealignConfig,
    *,
    out: str | Path,
    seeds: int = 3,
    num: int = 90,
    num_val: int = 40,
    ablate: bool = True,
) -> Study:
    """Train, evaluate and write the tables to `out`; `ablate`: also without the multi-choice task."""
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    out = Path(out)
    test = _questions("test", num=num, out=out)
    answers: dict[str, list[Rates]] = {}
    for seed in range(seeds):
        for variant in (FULL, NO_CHOOSING) if ablate else (FULL,):
            config = replace(recipe, seed=seed)
            if variant == NO_CHOOSING:
                config = replace(config, tasks=replace(config.tasks, choose=0.0))
            model = _prealigned(config, out=out / "models" / f"{variant}_{seed}")
            controls: list[str] | None = None if variant == FULL else []
            for name, rates in _evaluated(model, "test", test, out=out, controls=controls).items():
                condition = name if variant == FULL else NO_CHOOSING
                answers.setdefault(condition, []).append(rates)
    first = out / "models" / f"{FULL}_0"
    val = _questions("val", num=num_val, out=out)
    asked = _evaluated(first, "val", val, out=out, controls=["letter_scoring"])
    validation = {
        "text" if name == MAIN else "letter": sum(rates.values()) / len(rates)
        for name, rates in asked.items()
    }
    study = Study(
        samples=test,
        rates={name: _mean(runs) for name, runs in answers.items()},
        by_seed={name: [sum(r.values()) / len(r) for r in runs] for name, runs in answers.items()},
        validation=validation,
    )
    figures = table(study)
    atomic_write_text(out / "table.json", json.dumps(figures, indent=2) + "\n")
    atomic_write_text(out / "table.md", markdown(figures))
    return study


def table(study: Study) -> dict[str, Any]:
    """The figures of table.json, accuracies as shares of 1."""
    main = study.rates[MAIN]
    asked = {name: _of(study.samples, kinds) for name, kinds in GROUPS.items()}
    groups = {name: samples for name, samples in asked.items() if samples}
    conditions = {
        name: {
            "by_seed": list(study.by_seed[name]),
            "by_group": {g: _figures(samples, rates) for g, samples in groups.items()},
            "by_kind": {
                kind: _figures(_of(study.samples, (kind,)), rates)
                for kind in sorted({s.kind for s in study.samples})
            },
            "less_than_result": {g: _difference(samples, main, rates) for g, samples in groups.items()},
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
        "validation": dict(study.validation),
    }


def markdown(figures: Mapping[str, Any]) -> str:
    """table.md: conditions, what each costs, kinds, held-out combinations."""
    lines = [
        f"{figures['num_questions']:,} questions about {figures['num_videos']} test videos, "
        f"{figures['seeds']} seeds of pre-alignment; 95% intervals clustered by video.",
        "",
        "| condition | all | 95% interval | temporal | descriptive | Purpose | less than the result, all | temporal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, told in figures["conditions"].items():
        groups, less = told["by_group"], told["less_than_result"]
        cells = [f"{100 * groups[g]['accuracy']:.1f}" if g in groups else "" for g in GROUPS]
        cells.insert(1, _interval(groups["all"]))
        cost = (
            ["", ""] if name == MAIN else [_signed(less[g]) if g in less else "" for g in ("all", "temporal")]
        )
        title = "**video, zero-shot**" if name == MAIN else name.replace("_", " ")
        lines.append("| " + " | ".join([title, *cells, *cost]) + " |")
    main = figures["conditions"][MAIN]
    blind = figures["conditions"].get("blind", {"by_kind": {}})["by_kind"]
    seeds = ", ".join(f"{100 * a:.1f}" for a in main["by_seed"])
    lines += [
        "",
        f"The result by seed: {seeds}.",
        "",
        "| kind | n | video | 95% interval | blind |",
        "|---|---|---|---|---|",
    ]
    for kind, told in main["by_kind"].items():
        without = f"{100 * blind[kind]['accuracy']:.1f}" if kind in blind else ""
        lines.append(
            f"| {kind} | {told['n']} | {100 * told['accuracy']:.1f} | {_interval(told)} | {without} |"
        )
    lines += [
        "",
        "Of combinations of activity, room and actor: "
        + "; ".join(
            f"{name.replace('_', ' ')} {_told(part)}" for name, part in figures["by_held_out"].items()
        )
        + ".",
        "On validation videos (seed 0), "
        + ", ".join(f"{form} scoring {100 * a:.1f}" for form, a in figures["validation"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _questions(split: Split, *, num: int, out: Path) -> list[Sample]:
    make(split=split, num=num, out=out / split)
    return dollhouse(out / split, videos=out / split / "videos")


def _prealigned(config: PrealignConfig, *, out: Path) -> Path:
    return out if (out / SETTINGS_FILE).is_file() else prealign(config, out=out, resume=True)


def _evaluated(
    model: Path, split: Split, samples: Sequence[Sample], *, out: Path, controls: list[str] | None
) -> dict[str, Rates]:
    run = out / "eval" / f"{split}_{model.name}"
    evaluate(
        benchmark="dollhouse", data=out / split, videos=out / split / "videos", model=str(model), out=run,
        controls=controls,
    )  # fmt: skip
    reduction = Settings.load(model).reduction
    answers, _ = read_answers(run)
    return {
        name: {s.id: float(decide(told[s.id], reduction=reduction).choice == s.answer) for s in samples}
        for name, told in answers.items()
    }


def _mean(runs: Sequence[Rates]) -> Rates:
    return {sample: sum(rates[sample] for rates in runs) / len(runs) for sample in runs[0]}


def _of(samples: Sequence[Sample], kinds: tuple[str, ...]) -> list[Sample]:
    return [s for s in samples if not kinds or s.kind in kinds]


def _figures(samples: Sequence[Sample], rates: Rates) -> dict[str, Any]:
    told = accuracy([rates[s.id] for s in samples], clusters=[s.video.id for s in samples])
    return {"n": told.n, "accuracy": told.accuracy, "stderr": told.stderr, "ci95": list(told.ci95)}


def _difference(samples: Sequence[Sample], rates: Rates, other: Rates) -> dict[str, Any]:
    pair = [rates[s.id] for s in samples], [other[s.id] for s in samples]
    told = difference(*pair, clusters=[s.video.id for s in samples])
    return {"difference": told.difference, "stderr": told.stderr, "ci95": list(told.ci95)}


def _interval(told: Mapping[str, Any]) -> str:
    return f"{100 * told['ci95'][0]:.1f} to {100 * told['ci95'][1]:.1f}"


def _signed(told: Mapping[str, Any]) -> str:
    return f"{100 * told['difference']:+.1f} ({_interval(told)})"


def _told(told: Mapping[str, Any]) -> str:
    return f"{100 * told['accuracy']:.1f} ({_interval(told)}, {told['n']} questions)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument(
        "--no-ablation", action="store_true", help="leave out pre-alignment without multi-choice"
    )
    args = parser.parse_args()
    recipe = registry.load("recipes", args.recipe)()
    study = zero_shot_study(recipe, out=args.out, seeds=args.seeds, num=args.num, ablate=not args.no_ablation)
    print(markdown(table(study)), end="")


if __name__ == "__main__":
    main()
