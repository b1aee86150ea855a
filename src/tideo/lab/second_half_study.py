"""TOPA's second half: what a pre-alignment on text is worth where some annotated videos are at hand.

    python -m tideo.lab.second_half_study --out runs/second_half [--seeds 3] [--num 90] [--train 1000] [--steps 300]

The text-only model learns from 1, 10 and 100% of the training videos: from random weights, after the pre-alignment on
text, and after it with image features that are projected onto its memory. All have the same number of steps. Results
that exist are not computed again, so a stopped study continues; models of another recipe or of other training videos
end it. Writes OUT/table.md and OUT/table.json. Figures are means over seeds, of the trainings and of the videos that
are drawn; intervals are clustered by video and hold these trainings fixed, so differences are also given by seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tideo import registry
from tideo.bundled import located
from tideo.dollhouse.export import make
from tideo.evaluate.answers import MAIN
from tideo.evaluate.metrics import accuracy
from tideo.lab.tables import Rates, difference_of, evaluated, mean_rates, questions_of
from tideo.models.load import load_model
from tideo.runs import RUN_FILE
from tideo.store.files import atomic_write_text, content_key
from tideo.train.topa.config import PrealignConfig
from tideo.train.topa.prealign import prealign
from tideo.types import Sample, UserError

SHARES = (0.01, 0.1, 1.0)
WITHOUT, AFTER, PROJECTED = "random weights", "after text", "after text, projected"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    WITHOUT: {"start": None, "project": False},
    AFTER: {"project": False},
    PROJECTED: {"project": True},
}


def second_half_study(
    recipe: PrealignConfig, *, start: str, out: str | Path, seeds: int = 3, num: int = 90, train: int = 1000
) -> dict[str, Any]:
    """Train and evaluate what is missing in `out`, and return the figures of table.json.

    Raises UserError if a model in `out` was trained with another recipe or on other videos.
    """
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    out = Path(out)
    _check_trained_on(train, out=out)
    test = questions_of("test", num=num, out=out)
    questions_of("train", num=train, out=out)
    recipe = replace(
        recipe,
        tideos=None,
        start=start,
        data="dollhouse",
        path=str(out / "train"),
        videos=str(out / "train" / "videos"),
    )
    rates: dict[str, list[Rates]] = {"text alone": [_rates(Path(located(start)), test, out=out)]}
    for seed in range(seeds):
        for share in SHARES:
            for variant, changes in VARIANTS.items():
                folder = out / "models" / f"{variant.replace(', ', '_').replace(' ', '_')}_{share:g}_{seed}"
                config = replace(recipe, share=share, seed=seed, **changes)
                prealign(config, out=folder, resume=True)  # a finished one of another recipe is an error
                rates.setdefault(f"{variant}, {share:.0%}", []).append(_rates(folder, test, out=out))
    return figures(test, rates)


def figures(test: Sequence[Sample], rates: Mapping[str, Sequence[Rates]]) -> dict[str, Any]:
    """Accuracy of each condition, by seed too, and the paired differences that the claim is about."""
    means = {name: mean_rates(of_seed) for name, of_seed in rates.items()}
    pairs = [(f"{AFTER}, {share:.0%}", f"{WITHOUT}, {share:.0%}") for share in SHARES]
    pairs += [(f"{PROJECTED}, {share:.0%}", f"{AFTER}, {share:.0%}") for share in SHARES]
    pairs += [(f"{variant}, 10%", f"{WITHOUT}, 100%") for variant in (AFTER, PROJECTED)]
    return {
        "num_questions": len(test),
        "seeds": max(map(len, rates.values())),
        "conditions": {
            name: {
                **asdict(accuracy([mean[s.id] for s in test], clusters=[s.video.id for s in test])),
                "by_seed": [_mean(r) for r in rates[name]],
            }
            for name, mean in means.items()
        },
        "differences": {
            f"{a} − {b}": {
                **difference_of(test, means[a], means[b]),
                "by_seed": [_mean(x) - _mean(y) for x, y in zip(rates[a], rates[b], strict=True)],
            }
            for a, b in pairs
        },
    }


def page(table: Mapping[str, Any]) -> str:
    """table.md."""
    lines = ["| learned from | accuracy, % | 95% interval | by seed |", "|---|---|---|---|"]
    for name, row in table["conditions"].items():
        low, high = row["ci95"]
        seeds = ", ".join(f"{100 * value:.1f}" for value in row["by_seed"])
        lines.append(
            f"| {name} | {100 * row['accuracy']:.1f} | {100 * low:.1f} to {100 * high:.1f} | {seeds} |"
        )
    lines += ["", "| difference | points | 95% interval | by seed |", "|---|---|---|---|"]
    for name, row in table["differences"].items():
        low, high = row["ci95"]
        seeds = ", ".join(f"{100 * value:+.1f}" for value in row["by_seed"])
        lines.append(
            f"| {name} | {100 * row['difference']:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} | {seeds} |"
        )
    end = (
        f"{table['num_questions']} test questions, {table['seeds']} seeds. Intervals are of these trainings."
    )
    return "\n".join([*lines, "", end, ""])


def _check_trained_on(num: int, *, out: Path) -> None:
    """Raises UserError if there are models, which learned from other episodes than the first `num`.

    Their recipes name the folder of the videos, whatever lies in it.
    """
    if not any((out / "models").glob(f"*/{RUN_FILE}")):
        return
    there = out / "train" / "train.jsonl"
    with TemporaryDirectory() as folder:
        make(split="train", num=num, out=folder, videos=False)
        if content_key(there) != content_key(Path(folder) / there.name):
            raise UserError(
                f"the models in {out / 'models'} did not learn from these {num} training episodes, but from others: "
                "give the same --train, or another --out"
            )


def _mean(rates: Rates) -> float:
    return sum(rates.values()) / len(rates)


def _rates(model: Path, test: Sequence[Sample], *, out: Path) -> Rates:
    loaded = load_model(str(model))
    return evaluated(loaded, "test", test, out=out, run=f"test_{model.name}", controls=[])[MAIN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse_topa")
    parser.add_argument("--start", default="dollhouse-topa")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument("--train", type=int, default=1000, help="training episodes")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    args = vars(parser.parse_args())
    recipe = registry.load("recipes", args.pop("recipe"))()
    recipe = replace(recipe, train=replace(recipe.train, steps=args.pop("steps"), batch=args.pop("batch")))
    table = second_half_study(recipe, **args)
    out = Path(args["out"])
    atomic_write_text(out / "table.json", json.dumps(table, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(table))
    print(page(table), end="")


if __name__ == "__main__":
    main()
