"""Files by path or URL: s3://, gs://, https:// and what else fsspec reads."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from tideo.registry import require
from tideo.store.files import content_key, key_of_file
from tideo.types import UserError, VideoError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters at least, as C:// would be a disk


def is_url(source: str | Path) -> bool:
    return isinstance(source, str) and _URL.match(source) is not None


def check_url(url: str) -> None:
    """Raises UserError for a protocol that is unknown, or whose package is missing."""
    _system(url)


@contextlib.contextmanager
def opened(source: str | Path) -> Iterator[IO[bytes]]:
    """The file, to be read anywhere in it. Of a URL only what is read is transferred."""
    if not is_url(source):
        with open(source, "rb") as file:
            yield file
        return
    system, path = _system(str(source))
    with system.open(path, "rb", cache_type="none") as file:
        yield file


@contextlib.contextmanager
def local_copy(source: str) -> Iterator[str]:
    """A path of the file: its own, or that of a copy, which is removed in the end."""
    if not is_url(source):
        yield source
        return
    system, path = _system(source)
    with tempfile.TemporaryDirectory() as folder:
        # Only the ending of its name: a signed URL is longer than a file's name may be.
        copy = Path(folder) / f"copy{PurePosixPath(urlsplit(source).path).suffix[:16]}"
        system.get_file(path, str(copy))
        yield str(copy)


def content_of(source: str) -> str:
    """The `content_key` of a file by path or URL. Raises VideoError if it is missing, OSError if unreadable."""
    try:
        if Path(source).is_dir() and (key := content_key(source)) is not None:
            return key
        with opened(source) as file:
            return key_of_file(file)
    except FileNotFoundError as error:
        raise VideoError("there is no such file") from error
    except ValueError:
        if not is_url(source):  # a null character in the path
            raise
        # a server that cannot send a part of a file
        with local_copy(source) as copy:
            return content_of(copy)


def files_below(url: str) -> dict[str, str]:
    """The places below a URL and the URLs of all files there, sorted; of a file its own, at the place "".

    Raises UserError if there is nothing.
    """
    system, root = _system(url)
    try:
        found = [root] if system.isfile(root) else sorted(system.find(root))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{url} cannot be listed ({type(error).__name__}: {error}): check the address"
        ) from error
    if not found:
        raise UserError(f"{url}: there is no such file or folder")
    return {path.removeprefix(root).lstrip("/"): system.unstrip_protocol(path) for path in found}


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there. Raises UserError if it is unknown or its package is missing."""
    fsspec: Any = require("fsspec")
    protocol = url.partition("://")[0]
    if protocol in ("s3", "s3a"):
        require("s3fs")
    elif protocol in ("gs", "gcs"):
        require("gcsfs")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(
            f"{url} cannot be read ({error}): run pip install 'tideo[cloud]' to use it"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{url} cannot be read ({error}): expected a path, or s3://, gs:// or https://"
        ) from error
    return system, path
