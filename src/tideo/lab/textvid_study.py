"""How much text, how good, how varied: pre-align on Tideos that a server wrote, ask about rendered test videos.

    OMP_NUM_THREADS=1 python -m tideo.lab.textvid_study --out runs/textvid_study --seeds 3 --jobs 2

Every step is a command of tideo's, told as it is run: textvid generate (tideo.lab.scripted_writer over HTTP) → textvid
check --filter → encode → prealign → eval. Between generate and check stands what the study is about: fewer Tideos, or
faults planted in half of them (tideo.lab.planted_faults). All trainings take the same number of steps. Each seed has
Tideos and a training of its own. What was answered lies in OUT/outcomes, a small file each, and is not made again: a
killed study goes on, and the files of another machine count once they are put there. Writes OUT/table.md and
OUT/table.json.
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
SPARE = 1.1  # of what has to be written to be filled up, were no good one lost


def conditions_of(*, base: int, sizes: Sequence[int]) -> dict[str, Condition]:
    """Name → condition; `base` Tideos without a fault are what all is compared with.

    What is filtered is fewer than was written. Filled up, more was written, until the filter left `base`.
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
    """Run every command whose result is not there, write the tables.

    `num` test episodes. `settings`: more for `tideo prealign dollhouse --set`. `jobs` conditions at a time.
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
    told = figures(study, found={name: found(of_seeds) for name, of_seeds in checks.items()})
    atomic_write_text(out / "table.json", json.dumps(told, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(told, base=base))
    return study


def found(of_seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The share of the faulty Tideos that the check found a fault in, and of the others."""
    counts = {name: sum(of[name] for of in of_seeds) for name in ("faulty", "found", "good", "doubted")}
    return {
        "recall": counts["found"] / max(1, counts["faulty"]),
        "lost": counts["doubted"] / max(1, counts["good"]),
    }


def figures(study: Study, *, found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """table.json: the conditions, and for each fault what it cost and what the filter won back."""

    def less(name: str, other: str) -> dict[str, Any]:
        return {
            group: difference_of(study.samples, group, study.rates[name], study.rates[other])
            for group in COMPARED
            if of_kinds(study.samples, GROUPS[group])
        }

    filter_told = {
        name: {
            "found": found[name],
            "cost": less(MAIN, name),
            "won_back": less(name + FILTERED, name),
            "won_back_filled": less(name + FILLED, name),
        }
        for name in FAULTS.values()
    }
    return table(study) | {"filter": filter_told}


def page(told: Mapping[str, Any], *, base: int) -> str:
    """table.md."""
    text = markdown(told, trained="writing and pre-alignment", result=f"{base:,} Tideos")
    lines = [
        "",
        f"| fault in {SHARE:.0%} | found | good ones doubted | questions | cost | won back by the filter | share "
        "| filled up | share |",
        "|---" * 9 + "|",
    ]
    for name, of in told["filter"].items():
        for group, cost in of["cost"].items():
            won = [
                cell
                for way in ("won_back", "won_back_filled")
                for cell in (_points(of[way][group]), _share(of[way][group], cost))
            ]
            rates = f"{of['found']['recall']:.0%} | {of['found']['lost']:.0%}"
            lines.append(f"| {name} | {rates} | {group} | {_points(cost)} | {' | '.join(won)} |")
    return text + "\n".join(lines) + "\n"


def _share(won: Mapping[str, Any], cost: Mapping[str, Any]) -> str:
    return f"{won['difference'] / cost['difference']:.0%}" if cost["ci95"][0] > 0 else "no cost shown"


def _points(told: Mapping[str, Any]) -> str:
    low, high = told["ci95"]
    return f"{100 * told['difference']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument("--base", type=int, default=600, help="Tideos that faults are planted in")
    parser.add_argument("--steps", type=int, default=250, help="of every training")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of tideo prealign dollhouse"
    )
    parser.add_argument("--jobs", type=int, default=1, help="conditions worked on at a time")
    args = parser.parse_args()
    textvid_study(
        out=args.out, seeds=args.seeds, num=args.num, base=args.base, steps=args.steps, settings=args.set,
        jobs=args.jobs,
    )  # fmt: skip
    print((Path(args.out) / "table.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
