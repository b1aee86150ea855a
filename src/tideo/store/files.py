"""Storage that survives being killed: atomic files, append-only records, sharded features.

A reader sees a file whole or not at all. A record or a shard that was cut short by a crash is dropped,
and told; what was finished before it is kept, so that every long job continues where it stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def files_key(directory: Path, patterns: Sequence[str]) -> str:
    """A hash of the names and contents of the files that match."""
    paths = sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()})
    return key_of({str(path.relative_to(directory)): _sha256(path) for path in paths})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
