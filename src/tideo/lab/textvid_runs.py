"""The commands of the study of Tideos: write, then check, encode, pre-align and evaluate for each condition."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tideo.dollhouse import world
from tideo.evaluate.answers import MAIN
from tideo.evaluate.summary import REPORT_FILE
from tideo.lab.outcomes import Outcome, Outcomes
from tideo.lab.planted_faults import planted
from tideo.lab.scripted_writer import ONE_WAY, serve
from tideo.lab.tables import rates_in
from tideo.models.topa.settings import SETTINGS_FILE, Settings
from tideo.parallel import finished
from tideo.store.files import atomic_write_text
from tideo.textvid.check import CHECK_FILE
from tideo.textvid.schema import SHARDS, dump, from_tideo, load, to_tideo
from tideo.types import UserError

# The variety that the writer gives.
ANY, ONE_PURPOSE, ONE_WORDING = "any", "four activities of 25", "one wording"
SHARE = 0.5  # of the Tideos get a fault
SOME_FAILED = 3  # the exit code of a command that finished, but failed on some of its items


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a training gets: the first `num` Tideos of the kind `written`, a share of them with the fault `fault`.

    `filtered`: only those in which the check finds no fault. `most`: at most this many of them, spread evenly.
    """

    num: int
    written: str = ANY
    fault: str | None = None
    filtered: bool = False
    most: int | None = None


def command(*arguments: str | Path, log: Path) -> None:
    """Run a command of tideo and append its output to `log`. Raises UserError unless all or most of it succeeded."""
    words = [str(a) for a in arguments]
    print(f"$ tideo {shlex.join(words)}", file=sys.stderr, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.run(
            [sys.executable, "-m", "tideo", *words], stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if process.returncode not in (0, SOME_FAILED):  # a study can do without the Tideos that failed
        last = log.read_text(encoding="utf-8").strip().rpartition("\n")[2]
        raise UserError(f"tideo {words[0]} ended with exit code {process.returncode} ({last}): see {log}")


def write(out: Path, units: Sequence[tuple[str, int]], *, most: Mapping[str, int], jobs: int) -> None:
    """Write the Tideos of each kind and seed, with a server on loopback that runs meanwhile."""
    port = out / "port.txt"  # a folder of Tideos can only be continued with the address it was begun with
    server = serve(int(port.read_text(encoding="utf-8")) if port.is_file() else 0)
    atomic_write_text(port, f"{server.server_address[1]}\n")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    llm = f"openai:scripted@http://127.0.0.1:{server.server_address[1]}/v1"
    named = ", ".join(world.ACTIVITIES[a].phrases[0] for a in world.PURPOSES["care"][1])
    atomic_write_text(out / "activities.txt", f"only {named}\n")
    atomic_write_text(out / "one_wording.toml", f'like = "dollhouse"\nsystem = "Tell the same {ONE_WAY}."\n')
    flags: dict[str, list[str | Path]] = {
        ANY: ["--pack", "dollhouse"],
        ONE_PURPOSE: ["--pack", "dollhouse", "--conditions", out / "activities.txt"],
        ONE_WORDING: ["--pack", out / "one_wording.toml"],
    }

    def write_one(unit: tuple[str, int]) -> None:
        written, seed = unit
        command(
            "textvid", "generate", "--llm", llm, *flags[written], "--num", str(most[written]), "--seed", str(seed),
            "--out", _written(out, *unit), log=out / "logs" / f"{_written(out, *unit).name}.txt",
        )  # fmt: skip

    try:
        list(finished(write_one, units, at_once=jobs))
    finally:
        server.shutdown()
        server.server_close()


def _written(out: Path, written: str, seed: int) -> Path:
    return out / "written" / f"{plain(written)}_{seed}"


def run_condition(
    name: str, seed: int, condition: Condition, *, out: Path, settings: Sequence[str], outcomes: Outcomes
) -> Outcome:
    """The outcome of a condition and a seed: check, encode, pre-align and evaluate, unless its file exists."""
    folder, about = f"{plain(name)}_{seed}", about_of(condition, seed, settings)
    if (kept := outcomes.kept(folder, about=about)) is not None:
        return kept
    log, model, run = out / "logs" / f"{folder}.txt", out / "models" / folder, out / "eval" / folder
    given = _given(condition, seed, out=out, folder=folder)
    checked = out / "checked" / folder
    if condition.filtered and not (checked / CHECK_FILE).is_file():
        command("textvid", "check", given, "--filter", "--out", checked, log=log)
    if not (model / SETTINGS_FILE).is_file():
        tideos, features = checked / "kept" if condition.filtered else given, out / "features" / folder
        command("encode", tideos, "--encoder", "dollhouse-clip", "--out", features, log=log)
        most = condition.most or "none"
        chosen = [*settings, f"tideos={tideos}", f"features={features}", f"num_tideos={most}", f"seed={seed}"]
        sets = [word for setting in chosen for word in ("--set", setting)]
        command("prealign", "dollhouse_topa", *sets, "--out", model, "--resume", log=log)
    if not (run / REPORT_FILE).is_file():
        command(
            "eval", "dollhouse", "--data", out / "test", "--videos", out / "test" / "videos", "--model", model,
            "--control", "none", "--out", run, log=log,
        )  # fmt: skip
    rates = rates_in(run, outcomes.samples, reduction=Settings.load(model).reduction)[MAIN]
    figures = _found(checked, given, _written(out, ANY, seed)) if condition.filtered else {}
    return outcomes.keep(folder, Outcome(rates={name: rates}, figures=figures), about=about)


def about_of(condition: Condition, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """Everything that an outcome depends on."""
    return asdict(condition) | {"seed": seed, "settings": list(settings)}


def _given(condition: Condition, seed: int, *, out: Path, folder: str) -> Path:
    """A folder with the Tideos before any check, shuffled by the seed so that faulty ones have no fixed place."""
    given = out / "given" / folder
    shard = given / SHARDS.replace("*", "00000")
    if not shard.is_file():
        tideos = [to_tideo(r) for r in load(_written(out, condition.written, seed))][: condition.num]
        if condition.fault is not None:
            tideos, _ = planted(tideos, condition.fault, share=SHARE, seed=seed)
        random.Random(seed).shuffle(tideos)
        dump(map(from_tideo, tideos), shard)
    return given


def _found(checked: Path, given: Path, written: Path) -> dict[str, int]:
    """Counts of faulty Tideos, of those among them that the check found, of good ones, and of those it doubted."""
    clean = {str(r.idx): to_tideo(r) for r in load(written)}
    faults = json.loads((checked / CHECK_FILE).read_text(encoding="utf-8"))["faults"]
    counts = {"faulty": 0, "found": 0, "good": 0, "doubted": 0}
    for tideo in map(to_tideo, load(given)):
        original = clean[tideo.id]
        good = (tideo.frames, tideo.questions) == (original.frames, original.questions)
        counts["good" if good else "faulty"] += 1
        counts["doubted" if good else "found"] += tideo.id in faults
    return counts


def plain(name: str) -> str:
    """A condition's name as part of a file's name."""
    return name.replace(",", "").replace(" ", "_")
