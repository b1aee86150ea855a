"""What a request's URL names, as a file that can be opened: `data:`, a file that was sent before, one of the media
folder, or another host's.

What arrives is kept in a spool, a folder of files named by the hash of their content, bounded in bytes: the same video
sent twice is one file, and its frames are found again.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from tideo.serve.download import download
from tideo.types import UserError


class Writing:
    """A file that grows: its bytes are counted and hashed on the way."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.num_bytes, self.digest = 0, hashlib.sha256()

    def write(self, block: bytes) -> None:
        self.file.write(block)
        self.digest.update(block)
        self.num_bytes += len(block)


class Spool:
    """Files that requests brought, the least recently used removed beyond `max_bytes`. Safe in several threads.

    A file in use is not removed, so the bound is exceeded only while requests hold more than that.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._users: Counter[str] = Counter()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """A file that is being written; `Writing.keep` takes it up. What is not taken up is removed."""
        part = self.folder / f"{uuid.uuid4().hex}.part"
        try:
            with part.open("wb") as file:
                yield Writing(file, part)
        finally:
            part.unlink(missing_ok=True)

    def take(self, written: Writing) -> str:
        """The name of the file whose writing has ended: the hash of its content."""
        written.file.flush()
        name = written.digest.hexdigest()
        with self._lock:
            self._sizes[name] = written.num_bytes
            self._sizes.move_to_end(name)
            os.replace(written.path, self.folder / name)
            self._remove_oldest(but=name)
        return name

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[Path]:
        """The file of that name, which stays while the context is open. Raises UserError where it is gone."""
        with self._lock:
            if name not in self._sizes:
                raise UserError("this server no longer has that file: send it again")
            self._sizes.move_to_end(name)
            self._users[name] += 1
        try:
            yield self.folder / name
        finally:
            with self._lock:
                self._users[name] -= 1
                self._remove_oldest()

    def _remove_oldest(self, *, but: str | None = None) -> None:
        excess = sum(self._sizes.values()) - self.max_bytes
        for name in list(self._sizes):
            if excess <= 0:
                return
            if not self._users[name] and name != but:
                excess -= self._sizes.pop(name)
                del self._users[name]
                (self.folder / name).unlink()


SPOOL = "sent"  # the scheme of the URLs of files that were sent before


class Media:
    """Opens the URLs of requests. `media_dir`: the folder whose files a request may name; None allows none."""

    def __init__(
        self,
        spool: Spool,
        *,
        media_dir: Path | None = None,
        allowed_hosts: frozenset[str] = frozenset(),
        max_bytes: int,
        timeout_s: float = 60.0,
    ) -> None:
        self.spool, self.allowed_hosts = spool, allowed_hosts
        self.media_dir = None if media_dir is None else media_dir.resolve(strict=True)
        self.max_bytes, self.timeout_s = max_bytes, timeout_s

    @contextlib.contextmanager
    def file(self, url: str) -> Iterator[Path]:
        """The file that `url` names. Raises UserError where this server opens no such URL."""
        scheme = url[:8].partition(":")[0].lower()
        if scheme == "data":
            with self._kept([decoded(url)]) as path:
                yield path
        elif scheme in ("http", "https"):
            blocks = download(
                url, allowed_hosts=self.allowed_hosts, max_bytes=self.max_bytes, timeout_s=self.timeout_s
            )
            with self._kept(blocks) as path:
                yield path
        elif scheme == SPOOL:
            with self.spool.use(url.removeprefix(f"{SPOOL}:")) as path:
                yield path
        elif scheme == "file":
            yield self._local(url)
        else:
            raise UserError(f"url {url[:60]!r}: expected data:…;base64,…, http(s)://… or file:…")

    @contextlib.contextmanager
    def _kept(self, blocks: Iterable[bytes]) -> Iterator[Path]:
        with self.spool.writing() as written:
            for block in blocks:
                written.write(block)
            name = self.spool.take(written)
        with self.spool.use(name) as path:
            yield path

    def _local(self, url: str) -> Path:
        """The file below the media folder; `file:name` is relative to it. Links that lead out of it lead nowhere."""
        if self.media_dir is None:
            raise UserError("this server opens no files; its owner allows a folder of them by --media-dir")
        parts = urlsplit(url)
        named = self.media_dir / unquote(parts.path)
        try:
            found = named.resolve(strict=True)
        except (OSError, ValueError):
            found = None
        # One answer for what is outside and for what does not exist: others' files are nobody's business.
        if found is None or parts.netloc not in ("", "localhost") or not found.is_relative_to(self.media_dir):
            raise UserError(f"url {url[:200]!r}: there is no such file in this server's media folder")
        return found


def decoded(url: str) -> bytes:
    """The content of a data URL (RFC 2397). Raises UserError where it is none, or is empty."""
    head, comma, body = url.partition(",")
    if not comma:
        raise UserError(f"url {head[:60]!r}: a data URL has a comma before its content")
    try:
        content = (
            base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
        )
    except (binascii.Error, ValueError) as error:
        raise UserError(f"url {head[:60]!r}: its content is not base64 ({error})") from error
    if not content:
        raise UserError(f"url {head[:60]!r}: it is empty")
    return content
