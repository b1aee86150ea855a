"""Keys of content, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tideo.types import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK = 65536  # bytes that `content_key` reads at a file's beginning, middle and end


def key_of(obj: Any) -> str:
    """The sha256, in hexadecimal, of `obj` as canonical JSON: the same content has the same key anywhere.

    `obj` is made of JSON values, tuples (as lists) and dataclasses (as dicts). A NaN or any other object raises:
    if only its name or address were hashed, different inputs would share a key.
    """
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


def content_key(path: str | Path) -> str | None:
    """A key of a video's content: of its size, beginning, middle and end. None if the file is missing.

    For a folder of pictures, a key of their names and sizes; what file managers leave there does not count. Reading a
    whole data set at every start would take longer than answering.
    """
    try:
        if Path(path).is_dir():
            own = [p for p in sorted(Path(path).iterdir()) if not _of_a_file_manager(p.name)]
            return key_of([[p.name, p.stat().st_size] for p in own])
        with open(path, "rb") as file:
            return key_of_file(file)
    except OSError:
        return None


def key_of_file(file: IO[bytes]) -> str:
    """The `content_key` of an open file."""
    size = file.seek(0, 2)
    blocks = []
    for start in (0, size // 2, max(0, size - _BLOCK)):
        file.seek(start)
        blocks.append(hashlib.sha256(file.read(_BLOCK)).hexdigest())
    return key_of([size, blocks])


def _of_a_file_manager(name: str) -> bool:
    """Whether macOS (.DS_Store, ._00001.jpg) or Windows writes such a file into a folder that it shows or copies."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")


def canonical_json(obj: Any) -> str:
    """`obj` as JSON with sorted keys and no spaces. Raises TypeError or ValueError for values that JSON lacks."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False, default=jsonable)


def jsonable(obj: Any) -> Any:
    """A dataclass or a NumPy scalar as JSON values: the `default` of `json.dumps`. Raises TypeError for others."""
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return dataclasses.asdict(obj)
    if isinstance(obj, np.integer | np.floating | np.bool_):
        return obj.item()
    raise TypeError(
        f"{type(obj).__name__} has no canonical JSON: convert it to numbers, text, lists or dicts"
    )


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; it replaces `path` when the block ends without an error.

    Raises OSError with the path if the disk is full, whatever the library that writes raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.parent / f".{uuid.uuid4().hex}.tmp"  # of any name: a long one has no room for more
    try:
        yield tmp
        _fsync(tmp)
        os.replace(tmp, path)
        _fsync(path.parent)  # the rename itself must outlive a power cut
    except Exception as error:
        # A write by a descriptor names no file, safetensors has the system's number in its words alone.
        number = next(
            (n for n in FULL if getattr(error, "errno", None) == n or f"(os error {n})" in str(error)), None
        )
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        tmp.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write it as UTF-8, which has no half of a surrogate pair (an emoji that a limit cut): that becomes "?"."""
    with atomic_path(path) as tmp:
        tmp.write_bytes(text.encode(errors="replace"))


def check_writable(folder: str | Path) -> None:
    """Raises UserError for a folder that can be neither written nor made. It tries, and leaves nothing behind.

    A right that is asked for says less than a try: root has all of them, on a read-only disk too.
    """
    place = Path(folder).absolute()
    try:
        while not _exists(place):
            place = place.parent
        if not place.is_dir():
            raise UserError(f"{folder} cannot be a folder: {place} is a file; give another path")
        with tempfile.TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): give another path") from error


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def files_key(directory: Path, patterns: Sequence[str]) -> str:
    """A key of the names and contents of the directory's files that match any of the patterns."""
    paths = sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()})
    return key_of({str(path.relative_to(directory)): file_hash(path) for path in paths})


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal digits; for a folder, a key of its files' names and hashes."""
    if Path(path).is_dir():
        return files_key(Path(path), ["*"])
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
