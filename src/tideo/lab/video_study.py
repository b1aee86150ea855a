"""Grid or video: what a model that takes videos natively makes of the same frames in four looks.

    OMP_NUM_THREADS=1 python -m tideo.lab.video_study --out runs/video_study --seeds 3 --num 45

A tiny SmolVLM sees 16 frames as a grid, as four panels, as single frames or as a video of its own, always with 64
visual tokens. One start model has learned to see frames in all of these (`dollhouse_looks_start`); for every seed and
look a finetuning goes on from it (`dollhouse_looks`), with the same episodes and steps for all looks of a seed. All are
asked about the same rendered test videos, those of the first seed also without a picture (blind). What is finished is
not trained again; a folder of another recipe is an error. Writes OUT/table.md and OUT/table.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from tideo import registry
from tideo.evaluate.answers import MAIN
from tideo.evaluate.metrics import accuracy, t975
from tideo.evaluate.summary import read_report
from tideo.lab.tables import GROUPS, Rates, difference_of, evaluated, mean_rates, of_kinds, questions_of
from tideo.models.grid.vlm import GridVLM
from tideo.store.files import atomic_write_text
from tideo.tiny.looks import LOOKS, LooksConfig, train_looks
from tideo.train.grid.config import FinetuneConfig
from tideo.train.grid.finetune import finetune
from tideo.types import Sample, UserError

BLIND = "blind"
TOKENS = ("prompt_tokens", "visual_tokens")  # what a report's per_question has beside seconds


def video_study(
    recipe: FinetuneConfig, *, start: LooksConfig, out: str | Path, seeds: int = 3, num: int = 45
) -> dict[str, Any]:
    """Train and evaluate what is missing in `out`, and return the figures of table.json."""
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    out = Path(out)
    test = questions_of("test", num=num, out=out)
    started = train_looks(start, out=out / "models" / "start", resume=True)
    rates: dict[str, list[Rates]] = {look: [] for look in LOOKS}
    blind: dict[str, list[Rates]] = {look: [] for look in LOOKS}
    usage: dict[str, list[Mapping[str, float]]] = {look: [] for look in LOOKS}
    for seed in range(seeds):
        for look, settings in LOOKS.items():
            name = f"{look}_{seed}"
            config = replace(recipe, model=str(started / look), grid=settings, seed=seed)
            folder = finetune(config, out=out / "models" / name, resume=True)
            controls = [BLIND] if seed == 0 else []
            found = evaluated(GridVLM.load(folder), "test", test, out=out, run=name, controls=controls)
            rates[look].append(found[MAIN])
            if controls:
                blind[look].append(found[BLIND])
            usage[look].append(read_report(out / "eval" / name).per_question)
    return figures(test, rates, blind=blind, usage=usage)


def figures(
    test: Sequence[Sample],
    rates: Mapping[str, Sequence[Rates]],
    *,
    blind: Mapping[str, Sequence[Rates]],
    usage: Mapping[str, Sequence[Mapping[str, float]]],
) -> dict[str, Any]:
    """Accuracy of each look by group, kind and seed, and the paired differences of all pairs of looks."""
    groups = {name: found for name, kinds in GROUPS.items() if (found := of_kinds(test, kinds))}
    kinds = {kind: of_kinds(test, (kind,)) for kind in sorted({s.kind for s in test})}
    looks = {
        look: {
            "by_seed": [_share(test, of_seed) for of_seed in of_look],
            "by_group": {name: _accuracy(samples, mean_rates(of_look)) for name, samples in groups.items()},
            "by_kind": {kind: _accuracy(samples, mean_rates(of_look)) for kind, samples in kinds.items()},
            BLIND: _accuracy(test, mean_rates(blind[look])),
            **{name: statistics.mean(of[name] for of in usage[look]) for name in TOKENS},
            "seconds_by_seed": [of["seconds"] for of in usage[look]],
        }
        for look, of_look in rates.items()
    }
    return {
        "num_questions": len(test),
        "num_videos": len({s.video.id for s in test}),
        "seeds": max(map(len, rates.values())),
        "looks": looks,
        "differences": {
            f"{b} − {a}": {name: _difference(samples, rates[b], rates[a]) for name, samples in groups.items()}
            for a, b in combinations(rates, 2)
        },
    }


def _share(samples: Sequence[Sample], rates: Rates) -> float:
    return sum(rates[s.id] for s in samples) / len(samples)


def _accuracy(samples: Sequence[Sample], rates: Rates) -> dict[str, Any]:
    return asdict(accuracy([rates[s.id] for s in samples], clusters=[s.video.id for s in samples]))


def _difference(samples: Sequence[Sample], rates: Sequence[Rates], other: Sequence[Rates]) -> dict[str, Any]:
    """The paired difference, its interval over videos with these seeds, and over seeds with these questions."""
    by_seed = [
        _share(samples, of_one) - _share(samples, of_other)
        for of_one, of_other in zip(rates, other, strict=True)
    ]
    return {
        **difference_of(samples, mean_rates(rates), mean_rates(other)),
        "by_seed": by_seed,
        "ci95_over_seeds": _over_seeds(by_seed),
    }


def _over_seeds(by_seed: Sequence[float]) -> list[float] | None:
    """The interval of Student's t for the mean over seeds; None for one seed, which says nothing of others."""
    if len(by_seed) < 2:
        return None
    half = t975(len(by_seed) - 1) * statistics.stdev(by_seed) / math.sqrt(len(by_seed))
    mean = statistics.mean(by_seed)
    return [max(-1.0, mean - half), min(1.0, mean + half)]


def page(table: Mapping[str, Any]) -> str:
    """table.md."""
    looks, differences = table["looks"], table["differences"]
    groups = list(next(iter(looks.values()))["by_group"])
    lines = [
        f"{table['num_questions']:,} questions about {table['num_videos']} test videos, {table['seeds']} seeds of the "
        "finetuning from one start model. Intervals are 95%: over videos, clustered, with the seeds held fixed; and "
        "over seeds (Student's t), with the questions held fixed. Seconds are of the model alone, by seed, on two "
        "shared cores: they vary with what else ran.",
        "",
        _row(
            "look",
            *groups,
            "95% interval",
            "by seed",
            "blind",
            "prompt tokens",
            "visual",
            "seconds a question",
        ),
        "|---" * (len(groups) + 7) + "|",
    ]
    for look, row in looks.items():
        shares = [f"{100 * row['by_group'][name]['accuracy']:.1f}" for name in groups]
        seeds = ", ".join(f"{100 * share:.1f}" for share in row["by_seed"])
        seconds = ", ".join(f"{value:.3f}" for value in row["seconds_by_seed"])
        took = (f"{row['prompt_tokens']:.0f}", f"{row['visual_tokens']:.0f}", seconds)
        blind = f"{100 * row[BLIND]['accuracy']:.1f}"
        lines.append(_row(look, *shares, _interval(row["by_group"]["all"]["ci95"]), seeds, blind, *took))
    lines += [
        "",
        _row("difference", "questions", "points", "over videos", "by seed", "over seeds"),
        "|---" * 6 + "|",
    ]
    for name, of_groups in differences.items():
        for group, row in of_groups.items():
            seeds = ", ".join(f"{100 * value:+.1f}" for value in row["by_seed"])
            points = f"{100 * row['difference']:+.1f}"
            over_seeds = "" if row["ci95_over_seeds"] is None else _interval(row["ci95_over_seeds"], sign="+")
            lines.append(_row(name, group, points, _interval(row["ci95"], sign="+"), seeds, over_seeds))
    lines += ["", _row("kind", "n", *looks), "|---" * (2 + len(looks)) + "|"]
    for kind, of_kind in next(iter(looks.values()))["by_kind"].items():
        shares = [f"{100 * row['by_kind'][kind]['accuracy']:.0f}" for row in looks.values()]
        lines.append(_row(kind, str(of_kind["n"]), *shares))
    return "\n".join([*lines, ""])


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _interval(ci95: Sequence[float], *, sign: str = "") -> str:
    return " to ".join(f"{100 * end:{sign}.1f}" for end in ci95)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse_looks", help="recipe of the finetunings")
    parser.add_argument("--start", default="dollhouse_looks_start", help="recipe of the start model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=45, help="test episodes")
    args = vars(parser.parse_args())
    recipe, start = (registry.load("recipes", args.pop(name))() for name in ("recipe", "start"))
    table = video_study(recipe, start=start, **args)
    out = Path(args["out"])
    atomic_write_text(out / "table.json", json.dumps(table, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(table))
    print(page(table), end="")


if __name__ == "__main__":
    main()
