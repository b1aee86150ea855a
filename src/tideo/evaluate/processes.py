"""Where each of several processes of an evaluation writes its answers, and how they come together."""

from __future__ import annotations

from pathlib import Path

from tideo.evaluate.answers import ANSWERS_FILE
from tideo.processes import Processes
from tideo.store.records import RecordStore, read_records


def answers_of(processes: Processes, out: Path) -> Path:
    """Where this process writes its answers."""
    return out / (ANSWERS_FILE if processes.first else f"answers.{processes.rank}.jsonl")


def gather(out: Path) -> None:
    """Move what other processes have answered, in this run or in one that was killed, into answers.jsonl."""
    with RecordStore(out / ANSWERS_FILE, id_field="key") as store:  # also mends a line that was cut short
        for part in sorted(out.glob("answers.*.jsonl")):
            for record in read_records(part):
                if record["key"] not in store:
                    store.append(record)
            part.unlink()
