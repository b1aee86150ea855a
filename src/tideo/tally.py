"""How far a stream of work has come: what each of its stages has done, how fast, and what waits for it."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tideo.console import progress

FIRST_S = 2.0  # before the first line or bar: what ends sooner needs none
LINE_S = 10.0  # between two plain lines
STEP_S = 1.0  # between two looks
WINDOW_S = 10.0  # over which rates are taken, and a worker counts as at work


# Stage → units done, and workers that reported lately
Counts = Mapping[str, tuple[int, int]]


class Tally:
    """How many units each of a stream's `stages` has done, and by how many workers."""

    def __init__(self, *stages: str) -> None:
        self._num = dict.fromkeys(stages, 0)
        self._workers: dict[str, dict[str, float]] = {}
        self._elsewhere: Callable[[], Counts] | None = None
        self._lock = threading.Lock()

    def add(self, stage: str, num: int, worker: str = "") -> None:
        with self._lock:
            self._num[stage] = self._num.get(stage, 0) + num
            self._workers.setdefault(stage, {})[worker] = time.monotonic()

    def counts(self) -> Counts:
        with self._lock:
            since_s = time.monotonic() - WINDOW_S
            own = {
                stage: (num, sum(at > since_s for at in self._workers.get(stage, {}).values()))
                for stage, num in self._num.items()
            }
            return own | dict(self._elsewhere() if self._elsewhere else {})

    @contextmanager
    def with_counts_of(self, elsewhere: Callable[[], Counts]) -> Iterator[None]:
        """Take the counts of stages that run elsewhere from there, for as long as the block lasts."""
        self._elsewhere = elsewhere
        try:
            yield
        finally:
            with self._lock:
                self._elsewhere = None


def stages_line(before: Mapping[str, int], now: Counts, *, total: int, seconds: float) -> str:
    """Each stage's units a second since `before`, its workers, and the units that wait for it."""
    parts, left = [], total
    for stage, (num, workers) in now.items():
        rate = (num - before.get(stage, 0)) / max(seconds, 1e-9)
        by = f"{workers} at work, " if workers > 1 else ""
        parts.append(f"{stage} {rate:,.1f}/s ({by}{max(0, left - num):,} waiting)")
        left = num
    return " · ".join([f"{left:,} of {total:,}", *parts])


@contextmanager
def staged(tally: Tally, *, total: int) -> Iterator[None]:
    """Show the counts, stages in their order: beside a bar on a terminal, elsewhere as a line now and then."""
    ended = threading.Event()
    history = deque([(time.monotonic(), dict[str, int]())])

    def show() -> None:
        if ended.wait(FIRST_S):
            return
        with progress() as bar:
            task, shown_s = bar.add_task("", total=total), time.monotonic() - LINE_S
            while not ended.wait(STEP_S):
                now_s, now = time.monotonic(), tally.counts()
                history.append((now_s, {stage: num for stage, (num, _) in now.items()}))
                while len(history) > 2 and history[1][0] < now_s - WINDOW_S:
                    history.popleft()
                began_s, before = history[0]
                line = stages_line(before, now, total=total, seconds=now_s - began_s)
                bar.update(task, description=line, completed=min((num for num, _ in now.values()), default=0))
                if bar.disable and now_s - shown_s >= LINE_S:
                    shown_s = now_s
                    print(line, file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
