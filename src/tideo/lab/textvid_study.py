"""How much text, how good, how varied: pre-align on Tideos that a server wrote, ask about rendered test videos.

    OMP_NUM_THREADS=1 python -m tideo.lab.textvid_study --out runs/textvid_study --seeds 3 --jobs 2

Every step is a command of tideo's, told as it is run: textvid generate (tideo.lab.scripted_writer over HTTP) → textvid
check --filter → encode → prealign → eval. Between generate and check stands what the study is about: fewer Tideos, or
faults planted in half of them (tideo.lab.noise). All trainings take the same number of steps. Each seed has Tideos
and a training of its own. What is there is not made again, so a killed study goes on. Writes OUT/table.md and
OUT/table.json.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tideo.dollhouse import world
from tideo.evaluate.plan import MAIN
from tideo.evaluate.results import REPORT_FILE
from tideo.lab.noise import planted
from tideo.lab.scripted_writer import ONE_WAY, serve
from tideo.lab.studies import (
    COMPARED,
    GROUPS,
    Rates,
    Study,
    difference_of,
    markdown,
    of_kinds,
    questions_of,
    rates_in,
    study_of,
    table,
)
from tideo.models.settings import SETTINGS_FILE, Settings
from tideo.scale import finished
from tideo.store import atomic_write_text
from tideo.textvid.check import CHECK_FILE
from tideo.textvid.schema import SHARDS, dump, from_tideo, load, to_tideo
from tideo.types import UserError

ANY, ONE_PURPOSE, ONE_WORDING = "any", "four activities of 25", "one wording"  # what the writer is asked for
FAULTS = {"order": "shuffled frames", "captions": "wrong captions", "answer": "wrong answers"}
FILTERED, FILLED = ", filtered", ", filtered and filled up"
SPARE = 1.1  # of what has to be written to be filled up, were no good one lost
SHARE = 0.5  # of the Tideos, with a fault
SOME_FAILED = 3  # the exit code of a command that did its work, but for some of it


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a training gets: the first `num` of the Tideos written so, with a fault planted in a share of them.

    `most`: of those that are left so many, spread evenly.
    """

    num: int
    written: str = ANY
    fault: str | None = None
    filtered: bool = False
    most: int | None = None


def conditions_of(*, base: int, sizes: Sequence[int]) -> dict[str, Condition]:
    """Name → condition; `base` Tideos without a fault are what all is compared with.

    What is filtered is fewer than was written. Filled up, more was written, until the filter left `base`.
    """
    plain = Condition(num=base)
    noisy = {name: replace(plain, fault=fault) for fault, name in FAULTS.items()}
    filtered = {
        name + FILTERED: replace(condition, filtered=True)
        for name, condition in {"no fault": plain, **noisy}.items()
    }
    more = round(SPARE * base / (1 - SHARE))
    filled = {
        name + FILLED: replace(condition, num=more, filtered=True, most=base)
        for name, condition in noisy.items()
    }
    return (
        {MAIN: plain}
        | {f"{num:,} Tideos": Condition(num=num) for num in sizes}
        | noisy
        | filtered
        | filled
        | {written: replace(plain, written=written) for written in (ONE_PURPOSE, ONE_WORDING)}
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
    most = {
        written: max(c.num for c in conditions.values() if c.written == written)
        for written in (ANY, ONE_PURPOSE, ONE_WORDING)
    }
    _write(out, [(written, seed) for written in most for seed in range(seeds)], most=most, jobs=jobs)
    test = questions_of("test", num=num, out=out)
    trained = [*settings, f"train.steps={steps}", "train.epochs=none"]
    units = [(name, seed) for seed in range(seeds) for name in conditions]
    runs = dict(
        finished(
            lambda unit: (unit, _run(*unit, conditions[unit[0]], out=out, settings=trained)),
            units,
            at_once=jobs,
        )
    )
    rates: dict[str, list[Rates]] = {
        name: [rates_in(folder, test, reduction=reduction)[MAIN] for folder, reduction in of_seeds]
        for name in conditions
        for of_seeds in [[runs[name, seed] for seed in range(seeds)]]
    }
    study = study_of(test, rates)
    told = figures(study, found={name: _found(out, name, seeds=seeds) for name in FAULTS.values()})
    atomic_write_text(out / "table.json", json.dumps(told, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(told, base=base))
    return study


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


# --- the commands ----------------------------------------------------------------------------------


def _tideo(*arguments: str | Path, log: Path) -> None:
    """Run a command of tideo's; what it says goes into `log`. That some Tideos came to nothing does not end a study."""
    words = [str(a) for a in arguments]
    print(f"$ tideo {shlex.join(words)}", file=sys.stderr, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as told:
        done = subprocess.run(
            [sys.executable, "-m", "tideo", *words], stdout=told, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode not in (0, SOME_FAILED):
        last = log.read_text(encoding="utf-8").strip().rpartition("\n")[2]
        raise UserError(f"tideo {words[0]} ended with {done.returncode} ({last}): see {log}")


def _write(out: Path, units: Sequence[tuple[str, int]], *, most: Mapping[str, int], jobs: int) -> None:
    """The Tideos of each kind and seed, by a server on loopback for the time being."""
    kept = out / "port.txt"  # a folder of Tideos goes on with the server that it began with
    server = serve(int(kept.read_text(encoding="utf-8")) if kept.is_file() else 0)
    atomic_write_text(kept, f"{server.server_address[1]}\n")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    llm = f"openai:scripted@http://127.0.0.1:{server.server_address[1]}/v1"
    named = ", ".join(world.ACTIVITIES[a].phrases[0] for a in world.PURPOSES["care"][1])
    atomic_write_text(out / "activities.txt", f"only {named}\n")
    atomic_write_text(out / "one_wording.toml", f'like = "dollhouse"\nsystem = "Tell the same {ONE_WAY}."\n')
    asked: dict[str, list[str | Path]] = {
        ANY: ["--pack", "dollhouse"],
        ONE_PURPOSE: ["--pack", "dollhouse", "--conditions", out / "activities.txt"],
        ONE_WORDING: ["--pack", out / "one_wording.toml"],
    }

    def write(unit: tuple[str, int]) -> None:
        written, seed = unit
        _tideo(
            "textvid", "generate", "--llm", llm, *asked[written], "--num", str(most[written]), "--seed", str(seed),
            "--out", _written(out, *unit), log=out / "logs" / f"{_written(out, *unit).name}.txt",
        )  # fmt: skip

    try:
        list(finished(write, units, at_once=jobs))
    finally:
        server.shutdown()
        server.server_close()


def _written(out: Path, written: str, seed: int) -> Path:
    return out / "written" / f"{_plain(written)}_{seed}"


def _run(
    name: str, seed: int, condition: Condition, *, out: Path, settings: Sequence[str]
) -> tuple[Path, str]:
    """Check, encode, pre-align, evaluate: the run directory, and how its answers are decided."""
    folder = f"{_plain(name)}_{seed}"
    log, model, run = out / "logs" / f"{folder}.txt", out / "models" / folder, out / "eval" / folder
    if not (model / SETTINGS_FILE).is_file():
        tideos = _given(condition, seed, out=out, folder=folder)
        if condition.filtered:
            checked = out / "checked" / folder
            if not (checked / CHECK_FILE).is_file():
                _tideo("textvid", "check", tideos, "--filter", "--out", checked, log=log)
            tideos = checked / "kept"
        features = out / "features" / folder
        _tideo("encode", tideos, "--encoder", "dollhouse-clip", "--out", features, log=log)
        most = condition.most or "none"
        chosen = [*settings, f"tideos={tideos}", f"features={features}", f"num_tideos={most}", f"seed={seed}"]
        sets = [word for setting in chosen for word in ("--set", setting)]
        _tideo("prealign", "dollhouse", *sets, "--out", model, "--resume", log=log)
    if not (run / REPORT_FILE).is_file():
        _tideo(
            "eval", "dollhouse", "--data", out / "test", "--videos", out / "test" / "videos", "--model", model,
            "--control", "none", "--out", run, log=log,
        )  # fmt: skip
    return run, Settings.load(model).reduction


def _given(condition: Condition, seed: int, *, out: Path, folder: str) -> Path:
    """The Tideos before any check, as a folder like the writer's; in an order of the seed's, so none is favoured."""
    given = out / "given" / folder
    shard = given / SHARDS.replace("*", "00000")
    if not shard.is_file():
        tideos = [to_tideo(r) for r in load(_written(out, condition.written, seed))][: condition.num]
        if condition.fault is not None:
            tideos, _ = planted(tideos, condition.fault, share=SHARE, seed=seed)
        random.Random(seed).shuffle(tideos)
        dump(map(from_tideo, tideos), shard)
    return given


def _found(out: Path, name: str, *, seeds: int) -> dict[str, float]:
    """The share of the faulty Tideos that the checker found a fault in, and of the others."""
    doubted: dict[bool, list[bool]] = {True: [], False: []}  # by whether it is faulty
    for seed in range(seeds):
        folder = f"{_plain(name + FILTERED)}_{seed}"
        clean = {str(r.idx): to_tideo(r) for r in load(_written(out, ANY, seed))}
        told = json.loads((out / "checked" / folder / CHECK_FILE).read_text(encoding="utf-8"))["faults"]
        for tideo in map(to_tideo, load(out / "given" / folder)):
            was = clean[tideo.id]
            doubted[(tideo.frames, tideo.questions) != (was.frames, was.questions)].append(tideo.id in told)
    return {
        "recall": sum(doubted[True]) / max(1, len(doubted[True])),
        "lost": sum(doubted[False]) / max(1, len(doubted[False])),
    }


def _plain(name: str) -> str:
    return name.replace(",", "").replace(" ", "_")


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
