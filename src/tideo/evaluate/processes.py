"""Several processes of one run, as `accelerate launch` or `torchrun` starts them; usually there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tideo.evaluate.answers import ANSWERS_FILE
from tideo.store.records import RecordStore, read_records

PATIENCE = timedelta(days=30)  # of a process that is done, for those that are not


@dataclass(frozen=True)
class Team:
    """`rank` of `size` processes; the first one reads and writes what all share."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            from accelerate import PartialState  # type: ignore[import-untyped]

            PartialState(timeout=PATIENCE).wait_for_everyone()

    def answers(self, out: Path) -> Path:
        """Where this process writes its answers."""
        return out / (ANSWERS_FILE if self.first else f"answers.{self.rank}.jsonl")


def team() -> Team:
    """What the launcher says in the environment."""
    return Team(rank=int(os.environ.get("RANK", "0")), size=int(os.environ.get("WORLD_SIZE", "1")))


def gather(out: Path) -> None:
    """Move what other processes have answered, in this run or in one that was killed, into answers.jsonl."""
    with RecordStore(out / ANSWERS_FILE, id_field="key") as store:  # mends a line that was cut short, too
        for part in sorted(out.glob("answers.*.jsonl")):
            for record in read_records(part):
                if record["key"] not in store:
                    store.append(record)
            part.unlink()
