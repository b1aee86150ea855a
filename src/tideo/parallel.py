"""One function over many units of work, in threads or processes of this machine, and units that fail."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

from tideo.child import ChildDied
from tideo.types import Stopped, UserError

Unit = TypeVar("Unit")
Result = TypeVar("Result")
_thread = threading.local()  # `ended` is set in a thread of `finished`


@contextmanager
def threads(num: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. What is under way is waited for, but not after an error or an interruption."""
    pool = ThreadPoolExecutor(num)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def finished(work: Callable[[Unit], Result], units: Iterable[Unit], *, at_once: int) -> Iterator[Result]:
    """The result of `work` for each unit, up to `at_once` units at a time, in the order in which they finish.

    If one raises Stopped, no further unit is begun, the results of those under way are yielded, and it is raised. Units
    that wait in `sleep` then, or at an interrupt, are given up.
    """
    if at_once == 1:
        yield from map(work, units)
        return
    left, stopped = iter(units), None
    waiting: set[Future[Result]] = set()
    ended = threading.Event()

    def result_of(unit: Unit) -> Result:
        _thread.ended = ended
        return work(unit)

    with threads(at_once) as pool:
        try:
            while True:
                if stopped is None:
                    waiting |= {pool.submit(result_of, unit) for unit in islice(left, at_once - len(waiting))}
                if not waiting:
                    break
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        yield future.result()
                    except Stopped as error:
                        stopped = stopped or error
                        ended.set()
        finally:
            ended.set()
    if stopped is not None:
        raise stopped


def sleep(seconds: float) -> None:
    """Wait so long, however long. In a thread of `finished` that has ended, raises Stopped at once."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        ended: threading.Event | None = getattr(_thread, "ended", None)
        if ended is None:
            time.sleep(min(left_s, 3600.0))
        elif ended.wait(min(left_s, 3600.0)):
            raise Stopped("the run has ended")


def in_processes(
    work: Callable[..., Result], units: Sequence[Sequence[Any]], *, jobs: int, tasks_each: int | None = None
) -> Generator[Result, None, None]:
    """`work(*unit)` for each unit in new processes, in the order in which they finish.

    A process does `tasks_each` units, or as many as come. After an error or an interruption all are ended at once. Of
    Ctrl-C, which a terminal sends to every process, only this one hears.
    """
    others = active_children()
    # spawn, because a fork of a process with threads may hang
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=tasks_each)
    try:
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
        try:
            futures = [pool.submit(work, *unit) for unit in units]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        for future in as_completed(futures):
            yield future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        ended = [child for child in active_children() if child not in others]
        for child in ended:
            child.terminate()
        for child in ended:
            child.join()
        raise
    pool.shutdown()


# --- units that fail ---------------------------------------------------------------------------------

ATTEMPTS = 3
PAUSE_S = 1.0  # before the second attempt after an error of a disk or network; twice as long before the third


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What came of a unit in place of a result."""

    reason: str
    attempts: int


def attempted(work: Callable[[Unit], Result], unit: Unit) -> Result | Failure:
    """The result of `work`, or a Failure with the last reason where it raised ATTEMPTS times."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work(unit)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other units go on, and it is reported
            reason = _reason(error)
            if isinstance(error, OSError) and attempt < ATTEMPTS:
                time.sleep(PAUSE_S * attempt)
    return Failure(reason=reason, attempts=ATTEMPTS)


def _reason(error: Exception) -> str:
    """One line; with the error's class, unless the message was written for users."""
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, UserError | ChildDied) else f"{type(error).__name__}: {text}".rstrip(": ")
    )
