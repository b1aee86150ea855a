"""How much text, how good, how varied: pre-align on Tideos that a server writes, evaluate on rendered test videos.

    OMP_NUM_THREADS=1 python -m tideo.lab.textvid_study --out runs/textvid_study --seeds 3 --jobs 2

Every step is a command of tideo, which is printed when it runs: textvid generate (tideo.lab.scripted_writer over
HTTP) → textvid check --filter → encode → prealign → eval. Between generate and check the study varies the Tideos: fewer
of them, or faults in half of them (tideo.lab.planted_faults). All trainings take the same number of steps. Each seed
has its own Tideos and its own training. Each outcome is a small file in OUT/outcomes and is not computed again: a
stopped study continues, also with files from another machine. Writes OUT/table.md and OUT/table.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tideo.evaluate.answers import MAIN
from tideo.lab.outcomes import Outcomes
from tideo.lab.tables import (
    COMPARED,
    GROUPS,
    Study,
    difference_of,
    markdown,
    of_kinds,
    questions_of,
    study_of,
    table,
)
from tideo.lab.textvid_runs import (
    ANY,
    ONE_PURPOSE,
    ONE_WORDING,
    SHARE,
    Condition,
    about_of,
    plain,
    run_condition,
    write,
)
from tideo.parallel import finished
from tideo.store.files import atomic_write_text
from tideo.types import UserError

FAULTS = {"order": "shuffled frames", "captions": "wrong captions", "answer": "wrong answers"}
FILTERED, FILLED = ", filtered", ", filtered and filled up"
SPARE = 1.1  # more than enough Tideos to fill up if the filter lost no good one, because it loses some


def conditions_of(*, base: int, sizes: Sequence[int]) -> dict[str, Condition]:
    """Name → condition. All are compared with `base` Tideos without a fault.

    A filtered condition has fewer Tideos than were written. To fill it up, more are written, so that the filter leaves
    `base` of them.
    """
    clean = Condition(num=base)
    noisy = {name: replace(clean, fault=fault) for fault, name in FAULTS.items()}
    filtered = {
        name + FILTERED: replace(condition, filtered=True)
        for name, condition in {"no fault": clean, **noisy}.items()
    }
    more = round(SPARE * base / (1 - SHARE))
    filled = {
        name + FILLED: replace(condition, num=more, filtered=True, most=base)
        for name, condition in noisy.items()
    }
    return (
        {MAIN: clean}
        | {f"{num:,} Tideos": Condition(num=num) for num in sizes}
        | noisy
        | filtered
        | filled
        | {written: replace(clean, written=written) for written in (ONE_PURPOSE, ONE_WORDING)}
    )


def textvid_study(
    *,
    out: str | Path,
    seeds: int = 3,
    num: int = 90,
    base: int = 600,
    sizes: Sequence[int] = (20, 60, 200, 2000),
    steps: int = 250,
    settings: Sequence[str] = (),
    jobs: int = 1,
) -> Study:
    """Run every command whose result is missing, and write the tables.

    `num`: test episodes. `settings`: more of `tideo prealign dollhouse_topa --set`. `jobs`: conditions at a time.
    """
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    out, conditions = Path(out), conditions_of(base=base, sizes=sizes)
    test = questions_of("test", num=num, out=out, videos=False)
    outcomes = Outcomes(out / "outcomes", test)
    trained = [*settings, f"train.steps={steps}", "train.epochs=none"]
    units = [(name, seed) for seed in range(seeds) for name in conditions]
    missing = [
        (name, seed)
        for name, seed in units
        if outcomes.kept(f"{plain(name)}_{seed}", about=about_of(conditions[name], seed, trained)) is None
    ]
    if missing:
        most = {
            written: max(c.num for c in conditions.values() if c.written == written)
            for written in (ANY, ONE_PURPOSE, ONE_WORDING)
        }
        kinds = dict.fromkeys((conditions[name].written, seed) for name, seed in missing)
        write(out, list(kinds), most=most, jobs=jobs)
        questions_of("test", num=num, out=out)
    of_unit = dict(
        finished(
            lambda unit: (
                unit,
                run_condition(*unit, conditions[unit[0]], out=out, settings=trained, outcomes=outcomes),
            ),
            units,
            at_once=jobs,
        )
    )
    runs = {name: [of_unit[name, seed].rates[name] for seed in range(seeds)] for name in conditions}
    study = study_of(test, runs)
    checks = {
        name: [of_unit[name + FILTERED, seed].figures for seed in range(seeds)] for name in FAULTS.values()
    }
    content = figures(study, found={name: found(of_seeds) for name, of_seeds in checks.items()})
    atomic_write_text(out / "table.json", json.dumps(content, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(content, base=base))
    return study


def found(of_seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The share of the faulty Tideos that the check finds, and of the good ones that it loses."""
    counts = {
        name: sum(counts[name] for counts in of_seeds) for name in ("faulty", "found", "good", "doubted")
    }
    return {
        "recall": counts["found"] / max(1, counts["faulty"]),
        "lost": counts["doubted"] / max(1, counts["good"]),
    }


def figures(study: Study, *, found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """table.json: the conditions, and for each fault its cost and what the filter wins back."""

    def less(name: str, other: str) -> dict[str, Any]:
        return {
            group: difference_of(samples, study.rates[name], study.rates[other])
            for group in COMPARED
            if (samples := of_kinds(study.samples, GROUPS[group]))
        }

    by_fault = {
        name: {
            "found": found[name],
            "cost": less(MAIN, name),
            "won_back": less(name + FILTERED, name),
            "won_back_filled": less(name + FILLED, name),
        }
        for name in FAULTS.values()
    }
    return table(study) | {"filter": by_fault}


def page(content: Mapping[str, Any], *, base: int) -> str:
    """table.md, from the content of table.json."""
    text = markdown(content, trained="writing and pre-alignment", result=f"{base:,} Tideos")
    lines = [
        "",
        f"| fault in {SHARE:.0%} | found | good ones doubted | questions | cost | won back by the filter | share "
        "| filled up | share |",
        "|---" * 9 + "|",
    ]
    for name, fault in content["filter"].items():
        for group, cost in fault["cost"].items():
            won = [
                cell
                for way in ("won_back", "won_back_filled")
                for cell in (_points(fault[way][group]), _share(fault[way][group], cost))
            ]
            rates = f"{fault['found']['recall']:.0%} | {fault['found']['lost']:.0%}"
            lines.append(f"| {name} | {rates} | {group} | {_points(cost)} | {' | '.join(won)} |")
    return text + "\n".join(lines) + "\n"


def _share(won: Mapping[str, Any], cost: Mapping[str, Any]) -> str:
    return f"{won['difference'] / cost['difference']:.0%}" if cost["ci95"][0] > 0 else "no cost shown"


def _points(estimate: Mapping[str, Any]) -> str:
    low, high = estimate["ci95"]
    return f"{100 * estimate['difference']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument(
        "--base", type=int, default=600, help="Tideos of the condition that all are compared with"
    )
    parser.add_argument("--steps", type=int, default=250, help="training steps in every condition")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of tideo prealign dollhouse_topa",
    )
    parser.add_argument("--jobs", type=int, default=1, help="conditions at a time")
    args = parser.parse_args()
    textvid_study(**vars(args))
    print((Path(args.out) / "table.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
