"""How many bytes requests may hold together, whatever each of them may."""

from __future__ import annotations

import threading


class NoRoom(Exception):
    """What requests under way hold leaves no room for more: one that comes later may be served."""


class Held:
    """What one request holds. It is given back by `close`, or at the end of a `with` block."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._num_bytes = budget, 0

    def add(self, num_bytes: int) -> None:
        """Raises NoRoom."""
        self._budget.take(num_bytes)
        self._num_bytes += num_bytes

    def close(self) -> None:
        num_bytes, self._num_bytes = self._num_bytes, 0
        self._budget.take(-num_bytes)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Budget:
    """`what`: in the error's words, what is held. Safe in several threads."""

    def __init__(self, *, max_bytes: int, what: str) -> None:
        self.max_bytes, self.what = max_bytes, what
        self._num_bytes = 0
        self._lock = threading.Lock()

    def take(self, num_bytes: int) -> None:
        with self._lock:
            if num_bytes > 0 and self._num_bytes + num_bytes > self.max_bytes:
                raise NoRoom(f"{self.what} of requests under way fill this server's memory: ask again later")
            self._num_bytes += num_bytes

    def held(self) -> Held:
        return Held(self)
