"""Storage that survives being killed: atomic files, append-only records, sharded features.

A reader sees a file whole or not at all. A record or a shard that was cut short by a crash is dropped,
and told; what was finished before it is kept, so that every long job continues where it stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tideo.types import UserError

_BLOCK = 65536  # bytes of a large file's beginning, middle and end


def key_of(obj: Any) -> str:
    """The sha256, in hexadecimal, of `obj` as canonical JSON: the same content has the same key anywhere.

    `obj` is made of JSON values, tuples (as lists) and dataclasses (as dicts). A NaN or any other object
    raises: a key that hashed only a name or an address would return another input's answer.
    """
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


def content_key(path: str | Path) -> str | None:
    """What stands for a video's content: its size, beginning, middle and end; of a folder of pictures their names and
    sizes. None where it is missing.

    Reading whole data sets anew at every start would take longer than answering.
    """
    try:
        if Path(path).is_dir():
            return key_of([[p.name, p.stat().st_size] for p in sorted(Path(path).iterdir())])
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            blocks = []
            for start in (0, size // 2, max(0, size - _BLOCK)):
                file.seek(start)
                blocks.append(hashlib.sha256(file.read(_BLOCK)).hexdigest())
    except OSError:
        return None
    return key_of([size, blocks])


def canonical_json(obj: Any) -> str:
    """`obj` as JSON with sorted keys and no spaces. Raises TypeError or ValueError for what JSON lacks."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_jsonable)


def _jsonable(obj: Any) -> Any:
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return dataclasses.asdict(obj)
    if isinstance(obj, np.integer | np.floating | np.bool_):
        return obj.item()
    raise TypeError(
        f"{type(obj).__name__} has no canonical JSON: convert it to numbers, text, lists or dicts"
    )


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield tmp
        _fsync(tmp)
        os.replace(tmp, path)
        _fsync(path.parent)  # the rename itself must outlive a power cut
    finally:
        tmp.unlink(missing_ok=True)


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    with atomic_path(path) as tmp:
        tmp.write_bytes(data)


def atomic_write_text(path: str | Path, text: str) -> None:
    atomic_write_bytes(path, text.encode())


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- records: one JSON object a line ---


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records of a JSONL file, in order. A last line that was cut short is left out, with a warning."""
    records, _, torn = _parse_records(Path(path))
    if torn:
        warnings.warn(f"{path}: the last line was cut short ({torn} bytes) and is left out", stacklevel=2)
    return records


def _parse_records(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    """Records, the bytes they take, and the bytes of a torn line after them.

    No beginning of a JSON object is itself an object, so a last line that parses is whole even where its
    newline is missing.
    """
    records: list[dict[str, Any]] = []
    good = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                record = _parse_line(line, where=f"{path} line {number}")
                if record is None:
                    return records, good, len(line)
                records.append(record)
                good += len(line)
    except OSError as error:
        raise UserError(f"cannot read records from {path}: {error.strerror}") from error
    return records, good, 0


def _parse_line(line: bytes, *, where: str) -> dict[str, Any] | None:
    """The record of a line; None for a beginning without its end, which only the last line can be."""
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

    Opening an existing file continues it: `ids` says what is done. A last line that a kill cut short is
    removed, with a warning. An id can be written only once. A record has reached the operating system when
    `append` returns, so a killed process loses nothing that it appended. An fsync follows when the last is
    `fsync_s` seconds old (0: each record; inf: only on close), for a power cut.

    Raises UserError for a broken line, a repeated id, or a second writer. POSIX only: the lock is flock,
    which the kernel releases when the writer dies.
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
                f"{self.path}: another process writes it; wait for it, or write elsewhere"
            ) from error
        except UserError:
            os.close(self._fd)
            raise
        self._synced_s = time.monotonic()

    def _resume(self) -> set[str]:
        records, good, torn = _parse_records(self.path)
        ids: set[str] = set()
        for number, record in enumerate(records, start=1):
            record_id = self._id_of(record, where=f"{self.path} line {number}")
            if record_id in ids:
                raise UserError(
                    f"{self.path} line {number}: {self.id_field} {record_id!r} occurs twice; remove one"
                )
            ids.add(record_id)
        if torn:
            os.ftruncate(self._fd, good)
            warnings.warn(f"{self.path}: removed a last line that was cut short ({torn} bytes)", stacklevel=3)
        elif good and os.pread(self._fd, 1, good - 1) != b"\n":
            self._write(b"\n")
        return ids

    def _id_of(self, record: Mapping[str, Any], *, where: str) -> str:
        record_id = record.get(self.id_field)
        if not isinstance(record_id, str):
            raise UserError(f"{where}: a record needs a text in {self.id_field!r}, not {record_id!r}")
        return record_id

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record of JSON values, tuples and dataclasses. Raises ValueError for an id written
        before."""
        record_id = self._id_of(record, where=str(self.path))
        if record_id in self.ids:
            raise ValueError(f"{self.path} already holds {self.id_field} {record_id!r}")
        self._write(json.dumps(dict(record), allow_nan=False, default=_jsonable).encode() + b"\n")
        self.ids.add(record_id)
        if time.monotonic() - self._synced_s >= self.fsync_s:
            os.fsync(self._fd)
            self._synced_s = time.monotonic()

    def _write(self, data: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            while data:  # a signal or a full disk may write less than was asked
                data = data[os.write(self._fd, data) :]
        except BaseException:
            os.ftruncate(self._fd, size)  # half a line would spoil the next one
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- features: float16 rows of many items ---


class FeatureStore:
    """The feature rows of many items, read at random through memory maps, added a shard at a time.

        DIR/store.json              the width D, and `about`: what made the features (encoder, modality, …)
        DIR/shard-KEY.safetensors   "values" float16 [sum_T, D], and "pts_s" float64 [sum_T] if timed
        DIR/shard-KEY.json          the ids, and the number of rows of each, in the order of the rows

    KEY hashes the shard's content, so several writers may share a directory. A shard counts from the moment
    its JSON exists, so a kill leaves no half shard. An id in several shards is read from the first by name.
    `dim` makes a new store; `dim` and `about`, where given, must be those of an existing one (UserError).
    """

    def __init__(
        self, directory: str | Path, *, dim: int | None = None, about: Mapping[str, Any] | None = None
    ) -> None:
        self.directory = Path(directory)
        head_path = self.directory / "store.json"
        if not head_path.exists():
            if dim is None:
                raise UserError(
                    f"no features in {directory}: store.json is missing; make them with tideo encode"
                )
            atomic_write_text(
                head_path, json.dumps({"dim": dim, "about": dict(about or {})}, default=_jsonable)
            )
        head = json.loads(head_path.read_text())
        self.dim: int = head["dim"]
        self.about: dict[str, Any] = head["about"]
        if dim not in (None, self.dim) or (about is not None and key_of(about) != key_of(self.about)):
            raise UserError(
                f"{directory} holds features of width {self.dim} made by {canonical_json(self.about)}, "
                f"not width {dim} by {canonical_json(about)}: use another directory"
            )
        self._values: list[np.ndarray] = []
        self._pts_s: list[np.ndarray | None] = []
        self._spans: dict[str, tuple[int, int, int]] = {}  # id → shard, first row, row after the last
        for index_path in sorted(self.directory.glob("shard-*.json")):
            self._open_shard(index_path)

    def write(self, rows: Mapping[str, np.ndarray], *, pts_s: Mapping[str, np.ndarray] | None = None) -> None:
        """Add one shard of items: id → [T, D], stored as float16, and, where they have a clock, id → [T].

        Raises ValueError for an id written before, another width, a wrong number of times, or a value that
        float16 cannot hold. A few thousand rows a shard are a good size.
        """
        if not rows:
            return
        for item_id, values in rows.items():
            if item_id in self._spans:
                raise ValueError(f"{self.directory} already holds the features of {item_id!r}")
            if values.ndim != 2 or values.shape[1] != self.dim:
                raise ValueError(f"features of {item_id!r} must be [T, {self.dim}], not {list(values.shape)}")
            if pts_s is not None and pts_s[item_id].shape != values.shape[:1]:
                raise ValueError(
                    f"pts_s of {item_id!r} must be [{len(values)}], not {list(pts_s[item_id].shape)}"
                )
        with np.errstate(over="ignore"):  # told below
            tensors = {"values": np.concatenate(list(rows.values())).astype(np.float16)}
        if not np.isfinite(tensors["values"]).all():
            raise ValueError(f"a value in {next(iter(rows))!r} or after it is not finite in float16")
        if pts_s is not None:
            tensors["pts_s"] = np.concatenate([pts_s[item_id] for item_id in rows]).astype(np.float64)
        index = json.dumps({"ids": list(rows), "num_rows": [len(values) for values in rows.values()]})
        digest = hashlib.sha256(index.encode())
        for tensor in tensors.values():
            digest.update(tensor.data)
        stem = self.directory / f"shard-{digest.hexdigest()[:16]}"
        with atomic_path(stem.with_suffix(".safetensors")) as tmp:
            save_file(tensors, tmp)
        atomic_write_text(stem.with_suffix(".json"), index)
        self._open_shard(stem.with_suffix(".json"))

    def _open_shard(self, index_path: Path) -> None:
        index = json.loads(index_path.read_text())
        shard_path = index_path.with_suffix(".safetensors")
        try:
            # The torch back end maps the file and keeps no descriptor; the numpy one would copy it.
            with safe_open(shard_path, framework="pt") as shard:
                arrays = {name: shard.get_tensor(name).numpy() for name in shard.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{shard_path} cannot be read ({error}): remove it and its .json, and encode again"
            ) from error
        ends = np.cumsum([0, *index["num_rows"]]).tolist()
        if arrays["values"].shape != (ends[-1], self.dim):
            raise UserError(f"{shard_path} does not match its .json: remove both, and encode again")
        for array in arrays.values():
            array.flags.writeable = False
        for item_id, start, end in zip(index["ids"], ends, ends[1:], strict=False):
            self._spans.setdefault(item_id, (len(self._values), start, end))
        self._values.append(arrays["values"])
        self._pts_s.append(arrays.get("pts_s"))

    def __getitem__(self, item_id: str) -> np.ndarray:
        """The rows of one item, float16 [T, D]: a read-only view of the file. Raises KeyError."""
        shard, start, end = self._spans[item_id]
        return self._values[shard][start:end]

    def pts_s(self, item_id: str) -> np.ndarray | None:
        """The times of one item's rows, float64 [T], or None where it has no clock. Raises KeyError."""
        shard, start, end = self._spans[item_id]
        pts_s = self._pts_s[shard]
        return None if pts_s is None else pts_s[start:end]

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._spans

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)
