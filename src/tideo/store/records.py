"""Records on disk: JSON Lines files, one object a line, read, written at once, or appended to."""

from __future__ import annotations

import fcntl
import json
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tideo.store.files import atomic_write_text, jsonable
from tideo.types import UserError


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records of a JSONL file, in order. A last line that was cut short is left out, with a warning."""
    records, _, torn = _parse_records(Path(path))
    if torn:
        warnings.warn(f"{path}: the last line was cut short ({torn} bytes) and is left out", stacklevel=2)
    return records


def write_records(
    path: str | Path, records: Iterable[Mapping[str, Any]], *, ensure_ascii: bool = True
) -> None:
    """Write a whole JSONL file at once. Without `ensure_ascii` its texts stay readable in any script."""
    lines = (json.dumps(record, ensure_ascii=ensure_ascii) + "\n" for record in records)
    atomic_write_text(path, "".join(lines))


def _parse_records(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    """The records, the bytes they take, and the bytes of a torn line after them.

    No beginning of a JSON object is itself an object, so a last line that parses is whole even without a newline.
    """
    records: list[dict[str, Any]] = []
    num_bytes = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                record = _parse_line(line, where=f"{path} line {number}")
                if record is None:
                    return records, num_bytes, len(line)
                records.append(record)
                num_bytes += len(line)
    except OSError as error:
        raise UserError(f"cannot read records from {path}: {error.strerror}") from error
    return records, num_bytes, 0


def _parse_line(line: bytes, *, where: str) -> dict[str, Any] | None:
    """The record of a line; None for a line that was cut short, which only the last one can be."""
    try:
        record = json.loads(line)
    except ValueError as error:
        if not line.endswith(b"\n"):
            return None
        raise UserError(f"{where} is not JSON ({error}): repair or remove the line") from error
    if not isinstance(record, dict):
        raise UserError(
            f"{where} holds a {type(record).__name__}, not a JSON object: repair or remove the line"
        )
    return record


class RecordStore:
    """An append-only JSONL file of records, each with its own id, for one writer at a time.

    Opening an existing file continues it: `ids` holds the records that are there. A last line that a kill cut short
    is removed, with a warning. An id can be written only once. A record has reached the operating system when
    `append` returns, so a killed process loses nothing that it appended. Against a power cut, `append` calls fsync if
    the last call was `fsync_s` seconds ago (0: for each record; inf: only on close).

    Raises UserError for a broken line, a repeated id, or a second writer. POSIX only: the lock is flock, which the
    kernel releases when the writer dies.
    """

    def __init__(self, path: str | Path, *, id_field: str = "id", fsync_s: float = 5.0) -> None:
        self.path, self.id_field, self.fsync_s = Path(path), id_field, fsync_s
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.ids = self._resume()
        except BlockingIOError as error:
            os.close(self._fd)
            raise UserError(
                f"{self.path}: another process writes to it; wait for that process, or write elsewhere"
            ) from error
        except UserError:
            os.close(self._fd)
            raise
        self._synced_s = time.monotonic()

    def _resume(self) -> set[str]:
        records, num_bytes, torn = _parse_records(self.path)
        ids: set[str] = set()
        for number, record in enumerate(records, start=1):
            record_id = self._id_of(record, where=f"{self.path} line {number}")
            if record_id in ids:
                raise UserError(
                    f"{self.path} line {number}: {self.id_field} {record_id!r} occurs twice; remove one"
                )
            ids.add(record_id)
        if torn:
            os.ftruncate(self._fd, num_bytes)
            warnings.warn(f"{self.path}: removed a last line that was cut short ({torn} bytes)", stacklevel=3)
        elif num_bytes and os.pread(self._fd, 1, num_bytes - 1) != b"\n":
            self._write(b"\n")
        return ids

    def _id_of(self, record: Mapping[str, Any], *, where: str) -> str:
        record_id = record.get(self.id_field)
        if not isinstance(record_id, str):
            raise UserError(f"{where}: a record needs a text in {self.id_field!r}, not {record_id!r}")
        return record_id

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record of JSON values, tuples and dataclasses. Raises ValueError for an id that exists."""
        record_id = self._id_of(record, where=str(self.path))
        if record_id in self.ids:
            raise ValueError(f"{self.path} already holds {self.id_field} {record_id!r}")
        self._write(json.dumps(dict(record), allow_nan=False, default=jsonable).encode() + b"\n")
        self.ids.add(record_id)
        if time.monotonic() - self._synced_s >= self.fsync_s:
            os.fsync(self._fd)
            self._synced_s = time.monotonic()

    def _write(self, data: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            while data:  # a signal or a full disk may cut a write short
                data = data[os.write(self._fd, data) :]
        except BaseException:
            os.ftruncate(self._fd, size)  # half a line would spoil the next record
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __contains__(self, record_id: str) -> bool:
        return record_id in self.ids

    def __len__(self) -> int:
        return len(self.ids)

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
