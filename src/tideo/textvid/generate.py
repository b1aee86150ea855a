"""Conditions → Tideos that a language model writes, in shards that a kill at any time leaves whole.

    OUT/run.json             the run: model, pack, conditions, seed
    OUT/tideos-00000.jsonl   TextVid records, a thousand places a shard
    OUT/rejected.jsonl       rejected places, with the reason and the last reply

A Tideo's place (its `idx`) fixes its condition and its seed. The next call writes the places that have neither a
record nor a rejection, which includes those under way at a kill.
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
from tideo.textvid.writer import REQUESTS, Rejected, Usage, Writer, WriterSettings
from tideo.types import UserError

log = logging.getLogger(__name__)
SHARD, REJECTED_FILE = 1000, "rejected.jsonl"
_REJECTED_BEFORE = "rejected-*.jsonl"  # places that were tried again since; their usage still counts
REPORT_EVERY_S = 30.0  # between lines of progress without a terminal


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The contents of a folder: `accepted` and `rejected` Tideos of `num`, and the usage of all of them.

    `cost` is in the money of the prices, and 0 without prices.
    """

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
    settings: WriterSettings | None = None,
    retry_rejected: bool = False,
) -> Generated:
    """Write those of `num` Tideos that the folder lacks; `seed` draws the order of the conditions.

    Caps and limits are in the language model's `calls`; the usage of Tideos already in the folder counts towards the
    caps. Raises UserError for a folder of another run, and Stopped if no request can succeed. Tideos already written
    stay in either case.
    """
    if num < 1:
        raise UserError(f"{num} Tideos: expected at least 1")
    out, chosen, settings = Path(out), load_pack(pack), settings or WriterSettings()
    lines = read_conditions(conditions, chosen)
    writer = Writer(llm=llm, pack=chosen, settings=settings)
    recipe = {
        "llm": llm.name,
        "pack": chosen.name,
        "prompts": chosen.digest,
        "conditions": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12],
        "seed": seed,
        "num_questions": settings.num_questions,
        "temperature": settings.temperature,
    }
    _check_same_run(out, recipe)
    write_run(out, recipe=recipe, seed=seed)
    if retry_rejected and (out / REJECTED_FILE).is_file():
        number = len(list(out.glob(_REJECTED_BEFORE))) + 1
        (out / REJECTED_FILE).rename(out / _REJECTED_BEFORE.replace("*", str(number)))
    with RecordStore(out / REJECTED_FILE, id_field="idx") as rejected, _Shards(out) as shards:
        before = summary(out, num=num)
        llm.spent += before.cost
        llm.tokens += before.tokens
        missing = [p for p in range(num) if (name := _name(p)) not in shards.ids and name not in rejected]
        order = _order(len(lines), num, seed=seed)
        if missing:
            least = len(missing) * REQUESTS
            log.info(
                "%s Tideos × %d requests = %s requests to %s, at most %s if replies cannot be used",
                f"{len(missing):,}", REQUESTS, f"{least:,}", llm.name, f"{least * settings.tries:,}",
            )  # fmt: skip

        def write(place: int) -> tuple[int, Record | Rejected, Usage]:
            usage = Usage()
            try:
                record = writer.write(lines[order[place]], seed=seed, idx=_name(place), usage=usage)
            except Rejected as error:
                return place, error, usage
            return place, record, usage

        with _Progress(num, done=num - len(missing), llm=llm) as progress:
            for place, result, usage in finished(write, missing, at_once=llm.calls.concurrency):
                if isinstance(result, Rejected):
                    rejected.append(
                        {"idx": _name(place), "condition": lines[order[place]], "reason": str(result)}
                        | {"reply": result.reply, **asdict(usage)}
                        | llm.cost_field(usage.tokens_in, usage.tokens_out)
                    )
                else:
                    shards.append(place, result)
                progress.one_more()
    return summary(out, num=num)


def summary(out: str | Path, *, num: int) -> Generated:
    """The Tideos and rejections in the folder, and the usage of all, rejections that were tried again included."""

    def read(pattern: str) -> list[dict[str, Any]]:
        return [record for path in sorted(Path(out).glob(pattern)) for record in read_records(path)]

    accepted = [record["provenance"] for record in read(SHARDS)]
    rejected = read(REJECTED_FILE)
    usages = accepted + rejected + read(_REJECTED_BEFORE)
    return Generated(
        num=num,
        accepted=len(accepted),
        rejected=len(rejected),
        requests=sum(usage["requests"] for usage in usages),
        tokens=sum(usage["tokens_in"] + usage["tokens_out"] for usage in usages),
        cost=sum(usage.get("cost", 0.0) for usage in usages),
    )


def _name(place: int) -> str:
    return f"{place:07d}"


def _order(num_conditions: int, num: int, *, seed: int) -> list[int]:
    """The condition of each place: all conditions once in a random order, then all in another, and so on."""
    order: list[int] = []
    while len(order) < num:
        shuffled = list(range(num_conditions))
        random.Random(f"{seed}/{len(order)}").shuffle(shuffled)
        order += shuffled
    return order[:num]


def _check_same_run(out: Path, recipe: dict[str, Any]) -> None:
    if not (out / RUN_FILE).is_file():
        return
    there = read_run(out).recipe
    changed = [name for name in recipe if there.get(name) != recipe[name]]
    if changed:
        changes = ", ".join(f"{name} {there.get(name)!r} there, {recipe[name]!r} now" for name in changed)
        raise UserError(f"{out} holds Tideos of another run ({changes}): give another --out")


class _Shards:
    """The shards of a folder. A record goes into the shard of its place."""

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


class _Progress(Progress):
    """Number, rate, cost and remaining time: as a bar on a terminal, elsewhere as a log line now and then."""

    def __init__(self, num: int, *, done: int, llm: LanguageModel) -> None:
        super().__init__(
            TextColumn("writing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self.num, self.done, self.llm = num, done, llm
        self.num_before, self.begun_s = done, time.monotonic()
        self.reported_s = self.begun_s
        self.task = self.add_task("", total=num, completed=done, rate="")
        self.lines = not sys.stderr.isatty()

    def one_more(self) -> None:
        self.done += 1
        now_s = time.monotonic()
        minutes = (now_s - self.begun_s) / 60
        rate = (self.done - self.num_before) / max(minutes, 1e-9)
        cost = f", {self.llm.spent:.2f} spent" if self.llm.spent else ""
        status = f"{rate:.0f} a minute, {self.llm.tokens} tokens{cost}"
        self.update(self.task, completed=self.done, rate=status)
        if self.lines and now_s - self.reported_s > REPORT_EVERY_S:
            self.reported_s = now_s
            left = (self.num - self.done) / max(rate, 1e-9)
            log.info("%d of %d, %s, %.1f min left", self.done, self.num, status, left)
