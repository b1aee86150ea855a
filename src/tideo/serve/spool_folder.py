"""The temporary folder of a server's spool: gone when the server ends, or when the next one starts after a kill."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX, LOCK = "tideo-serve-", "lock"


class SpoolFolder:
    """A new folder, `path`, only for this user. As long as it is open, its file `lock` is locked."""

    def __init__(self) -> None:
        remove_old(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        # It is locked before it has its name: another server that starts now would take it for a dead one's.
        self._lock = (self.path / f".{LOCK}").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / f".{LOCK}").rename(self.path / LOCK)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_old(parent: Path) -> None:
    """Remove this user's folders there whose servers no longer run."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is another user's, in use, or just being made
            if folder.lstat().st_uid == os.getuid():
                with (folder / LOCK).open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
