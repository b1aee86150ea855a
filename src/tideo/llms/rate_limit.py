"""When the next request may begin: limits on requests and tokens a minute, and the waits that a server asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tideo.parallel import sleep as interruptible_sleep


class Pace:
    """`wait` returns when the next request may begin; `used` takes the tokens of a finished one. All threads share it.

    Requests are spread evenly: n a minute begin at least 60/n seconds apart. Tokens are known only afterwards, so each
    reply delays the next request by its tokens; requests under way may exceed the limit.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = interruptible_sleep,
    ) -> None:
        self._gap_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._token_s = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next_s = self._tokens_due_s = self._held_until_s = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            begins_s = max(self._clock(), self._next_s, self._tokens_due_s)
            self._next_s = begins_s + self._gap_s
        # The server may ask another thread to wait during this sleep.
        while (left_s := max(begins_s, self._held_until_s) - self._clock()) > 0:
            self._sleep(left_s)

    def hold(self, seconds: float) -> bool:
        """Let no request begin for so long. Returns whether that is at least a second more than was known."""
        with self._lock:
            until_s, before_s = self._clock() + seconds, max(self._clock(), self._held_until_s)
            self._held_until_s = max(until_s, before_s)
        return until_s >= before_s + 1

    def used(self, tokens: int) -> None:
        with self._lock:
            self._tokens_due_s = max(self._tokens_due_s, self._clock()) + tokens * self._token_s
