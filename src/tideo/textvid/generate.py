"""Conditions → Tideos that a language model writes, in shards that a kill at any time cannot spoil.

    OUT/run.json             what was asked for: model, pack, conditions, seed
    OUT/tideos-00000.jsonl   TextVid records, a thousand places a shard
    OUT/rejected.jsonl       what came to nothing, with the reason and the last reply

A Tideo's place (its `idx`) fixes its condition and its seed. Places that have neither a record nor a rejection are
written by the next call; what was under way at a kill is asked for again.
"""

from __future__ import annotations

import hashlib
import logging
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tideo.llms.interface import LanguageModel
from tideo.parallel import finished
from tideo.runs import RUN_FILE, read_run, write_run
from tideo.store.records import RecordStore, read_records
from tideo.textvid.packs import load_pack, read_conditions
from tideo.textvid.schema import SHARDS, Record
from tideo.textvid.writer import Asking, Rejected, Spent, Writer
from tideo.types import UserError

log = logging.getLogger(__name__)
SHARD, REJECTED_FILE = 1000, "rejected.jsonl"
_REJECTED_BEFORE = "rejected-*.jsonl"  # asked for again since; what they took still counts
TELL_S = 30.0  # between lines of progress where there is no terminal


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What lies in a folder after a run: `accepted` and `rejected` Tideos of `num`, and what all of them took."""

    num: int
    accepted: int
    rejected: int
    requests: int
    tokens: int
    cost: float


def generate(
    llm: LanguageModel,
    *,
    num: int,
    out: str | Path,
    conditions: str | Path | None = None,
    pack: str = "everyday",
    seed: int = 0,
    asking: Asking | None = None,
    retry_rejected: bool = False,
) -> Generated:
    """Write the Tideos of `num` places that are not there yet; conditions are gone through in an order drawn by `seed`.

    Caps and limits are the language model's `calls`; what a folder's Tideos took before counts towards the caps. Raises
    UserError for a folder of another run, and Stopped where no request can be answered; nothing written is lost.
    """
    if num < 1:
        raise UserError(f"{num} Tideos asked for; expected at least 1")
    out, chosen, asking = Path(out), load_pack(pack), asking or Asking()
    lines = read_conditions(conditions, chosen)
    writer = Writer(llm=llm, pack=chosen, asking=asking)
    recipe = {
        "llm": llm.name,
        "pack": chosen.name,
        "prompts": chosen.digest,
        "conditions": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12],
        "seed": seed,
        "num_questions": asking.num_questions,
        "temperature": asking.temperature,
    }
    _check_same_run(out, recipe)
    write_run(out, recipe=recipe, seed=seed)
    if retry_rejected and (out / REJECTED_FILE).is_file():
        number = len(list(out.glob(_REJECTED_BEFORE))) + 1
        (out / REJECTED_FILE).rename(out / _REJECTED_BEFORE.replace("*", str(number)))
    with RecordStore(out / REJECTED_FILE, id_field="idx") as rejected, _Shards(out) as shards:
        for took in _took(out):
            llm.spent += took["cost"]
            llm.tokens += took["tokens_in"] + took["tokens_out"]
        missing = [p for p in range(num) if (name := _name(p)) not in shards.ids and name not in rejected]
        order = _order(len(lines), num, seed=seed)

        def write(place: int) -> tuple[int, Record | Rejected, Spent]:
            spent = Spent()
            try:
                written = writer.write(lines[order[place]], seed=seed, idx=_name(place), spent=spent)
            except Rejected as error:
                return place, error, spent
            return place, written, spent

        with _Telling(num, done=num - len(missing), llm=llm) as telling:
            for place, made, spent in finished(write, missing, at_once=llm.calls.concurrency):
                if isinstance(made, Rejected):
                    cost = llm.cost(spent.tokens_in, spent.tokens_out)
                    rejected.append(
                        {"idx": _name(place), "condition": lines[order[place]], "reason": str(made)}
                        | {"reply": made.reply, **asdict(spent), "cost": cost}
                    )
                else:
                    shards.append(place, made)
                telling.one()
    return summary(out, num=num)


def summary(out: str | Path, *, num: int) -> Generated:
    """What lies in the folder."""
    took = list(_took(Path(out)))
    num_rejected = len(read_records(Path(out) / REJECTED_FILE))
    return Generated(
        num=num,
        accepted=sum(len(read_records(path)) for path in sorted(Path(out).glob(SHARDS))),
        rejected=num_rejected,
        requests=sum(t["requests"] for t in took),
        tokens=sum(t["tokens_in"] + t["tokens_out"] for t in took),
        cost=sum(t["cost"] for t in took),
    )


def _took(out: Path) -> list[dict[str, Any]]:
    """What each accepted and each rejected Tideo took."""
    accepted = [r["provenance"] for path in sorted(out.glob(SHARDS)) for r in read_records(path)]
    before = [r for path in sorted(out.glob(_REJECTED_BEFORE)) for r in read_records(path)]
    return accepted + read_records(out / REJECTED_FILE) + before


def _name(place: int) -> str:
    return f"{place:07d}"


def _order(num_conditions: int, num: int, *, seed: int) -> list[int]:
    """The condition of each place: all of them once in a random order, then all of them again in another."""
    order: list[int] = []
    while len(order) < num:
        again = list(range(num_conditions))
        random.Random(f"{seed}/{len(order)}").shuffle(again)
        order += again
    return order[:num]


def _check_same_run(out: Path, recipe: dict[str, Any]) -> None:
    if not (out / RUN_FILE).is_file():
        return
    there = read_run(out).recipe
    other = [name for name in recipe if there.get(name) != recipe[name]]
    if other:
        told = ", ".join(f"{name} {there.get(name)!r} there, {recipe[name]!r} now" for name in other)
        raise UserError(f"{out} holds Tideos of another run ({told}): give another --out")


class _Shards:
    """The shards of a folder; a record goes into that of its place."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.open = {path: RecordStore(path, id_field="idx") for path in sorted(out.glob(SHARDS))}
        self.ids = {name for store in self.open.values() for name in store.ids}

    def append(self, place: int, record: Record) -> None:
        path = self.out / SHARDS.replace("*", f"{place // SHARD:05d}")
        if path not in self.open:
            self.open[path] = RecordStore(path, id_field="idx")
        self.open[path].append(record.model_dump(exclude_unset=True))

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self.open.values():
            store.close()


class _Telling:
    """A bar on a terminal, a line now and then elsewhere: how many, how fast, for how much, how long still."""

    def __init__(self, num: int, *, done: int, llm: LanguageModel) -> None:
        self.num, self.done, self.llm = num, done, llm
        self.begun, self.begun_s = done, time.monotonic()
        self.told_s = self.begun_s
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("writing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), console=console, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=num, completed=done, rate="")
        self.lines = not sys.stderr.isatty()

    def __enter__(self) -> _Telling:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def one(self) -> None:
        self.done += 1
        now_s = time.monotonic()
        minutes = (now_s - self.begun_s) / 60
        rate = (self.done - self.begun) / max(minutes, 1e-9)
        cost = f", {self.llm.spent:.2f} spent" if self.llm.spent else ""
        told = f"{rate:.0f} a minute, {self.llm.tokens} tokens{cost}"
        self.bar.update(self.task, completed=self.done, rate=told)
        if self.lines and now_s - self.told_s > TELL_S:
            self.told_s = now_s
            left = (self.num - self.done) / max(rate, 1e-9)
            log.info("%d of %d, %s, %.1f min left", self.done, self.num, told, left)
