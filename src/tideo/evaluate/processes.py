"""Several processes of one run, as `accelerate launch` or `torchrun` starts them; usually there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tideo.evaluate.answers import ANSWERS_FILE
from tideo.store.records import RecordStore, read_records

PATIENCE = timedelta(days=30)  # how long a process waits for the others


@dataclass(frozen=True)
class Processes:
    """This is process `rank` of `size`; the first one reads and writes what all share."""

    rank: int
    size: int

    @classmethod
    def launched(cls) -> Processes:
        """As the launcher sets them in the environment."""
        return cls(rank=int(os.environ.get("RANK", "0")), size=int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have called this."""
        if self.size > 1:
            from accelerate import PartialState  # type: ignore[import-untyped]

            PartialState(timeout=PATIENCE).wait_for_everyone()

    def answers(self, out: Path) -> Path:
        """Where this process writes its answers."""
        return out / (ANSWERS_FILE if self.first else f"answers.{self.rank}.jsonl")


def gather(out: Path) -> None:
    """Move what other processes have answered, in this run or in one that was killed, into answers.jsonl."""
    with RecordStore(out / ANSWERS_FILE, id_field="key") as store:  # also mends a line that was cut short
        for part in sorted(out.glob("answers.*.jsonl")):
            for record in read_records(part):
                if record["key"] not in store:
                    store.append(record)
            part.unlink()
