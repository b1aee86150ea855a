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
import stat
import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from tideo.serve.budget import NoRoom
from tideo.serve.download import download
from tideo.types import UserError


class Writing:
    """A file that grows: its bytes are counted and hashed on the way, and room is made for them."""

    def __init__(self, file: BinaryIO, path: Path, *, make_room: Callable[[int], None]) -> None:
        self.file, self.path, self._make_room = file, path, make_room
        self.num_bytes, self.digest = 0, hashlib.sha256()
        self.room = 0  # the bytes that are counted as being written

    def write(self, block: bytes) -> None:
        """Raises NoRoom."""
        self._make_room(len(block))
        self.room += len(block)
        self.num_bytes += len(block)
        self.digest.update(block)
        with _room_on_disk():
            self.file.write(block)


@contextlib.contextmanager
def _room_on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoRoom(f"this server's disk takes no more ({error.strerror}): ask again later") from error


class Spool:
    """Files that requests brought, the least recently used removed beyond `max_bytes`. Safe in several threads.

    Files in use are not removed, nor those being written: if they leave no room, a further one is refused (NoRoom).
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._users: Counter[str] = Counter()
        self._being_written = 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """A file that is being written; `take` takes it up. What is not taken up is removed."""
        part = self.folder / f"{uuid.uuid4().hex}.part"
        with _room_on_disk():
            file = part.open("wb", buffering=0)
        written = Writing(file, part, make_room=self._make_room)
        try:
            yield written
        finally:
            file.close()
            part.unlink(missing_ok=True)
            with self._lock:
                self._being_written -= written.room

    def take(self, written: Writing) -> str:
        """The name of the file whose writing has ended: the hash of its content."""
        name = written.digest.hexdigest()
        with self._lock:
            self._sizes[name] = written.num_bytes
            self._sizes.move_to_end(name)
            os.replace(written.path, self.folder / name)
            self._being_written -= written.room
            written.room = 0
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

    def _make_room(self, num_bytes: int) -> None:
        with self._lock:
            excess = sum(self._sizes.values()) + self._being_written + num_bytes - self.max_bytes
            removed = []
            for name in self._sizes if excess > 0 else ():
                if not self._users[name]:
                    removed.append(name)
                    excess -= self._sizes[name]
                if excess <= 0:
                    break
            if excess > 0:
                raise NoRoom("the files of requests under way leave no room for more: ask again later")
            for name in removed:
                del self._sizes[name], self._users[name]
                (self.folder / name).unlink()
            self._being_written += num_bytes


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
        """The file that `url` names. Raises UserError where this server opens no such URL, NoRoom as the spool does."""
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

    def as_named(self, message: str) -> str:
        """The message with the URLs that clients know in place of this server's paths."""
        paths = {self.spool.folder: f"{SPOOL}:"} | (
            {} if self.media_dir is None else {self.media_dir: "file:"}
        )
        for folder, scheme in paths.items():
            message = message.replace(os.path.join(folder, ""), scheme)
        return message

    def _local(self, url: str) -> Path:
        """The file below the media folder; `file:name` is relative to it. Links that lead out of it lead nowhere."""
        if self.media_dir is None:
            raise UserError("this server opens no files; its owner allows a folder of them by --media-dir")
        try:
            parts = urlsplit(url)
            found = (self.media_dir / unquote(parts.path)).resolve(strict=True)
            opens = parts.netloc in ("", "localhost") and _lies_in(self.media_dir, found)
        except (
            OSError,
            ValueError,
            RuntimeError,
        ):  # RuntimeError: before Python 3.13, links that lead in a circle
            opens = False
        # One answer for what is outside and for what does not exist: others' files are nobody's business.
        if not opens:
            raise UserError(f"url {url[:200]!r}: there is no such file in this server's media folder")
        return found


def _lies_in(folder: Path, found: Path) -> bool:
    """Whether it is a file below the folder, or a folder of pictures there. A pipe or a device has no end."""
    if not found.is_relative_to(folder) or found == folder:
        return False
    if found.is_dir():
        return all(_is_file_in(folder, picture.resolve(strict=True)) for picture in found.iterdir())
    return _is_file_in(folder, found)


def _is_file_in(folder: Path, found: Path) -> bool:
    return found.is_relative_to(folder) and (stat.S_ISREG(found.stat().st_mode) or found.is_dir())


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
