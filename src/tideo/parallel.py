"""One function over many units of work, in threads or processes of this machine, and units that fail."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import active_children, connection, get_context, parent_process
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
    work: Callable[..., Result], units: Sequence[Sequence[Any]], *, jobs: int, fresh: bool = False
) -> Generator[Result, None, None]:
    """`work(*unit)` for each unit in new processes, in the order in which they finish.

    A `fresh` process is started for each unit, else one does as many as come. After an error or an interruption all are
    ended at once, and they end with this process however it ends. Of Ctrl-C, which a terminal sends to every process,
    only this one hears. Raises ValueError for less than one job, UserError where a process is killed.
    """
    if jobs < 1:
        raise ValueError(f"{jobs} jobs: expected at least 1")
    others, left = active_children(), iter(units)
    # Not max_tasks_per_child, with which an executor may wait for ever (python/cpython, issue 115634).
    shared = None if fresh else _executor(jobs)
    waiting: dict[Future[Result], ProcessPoolExecutor] = {}
    try:
        while True:
            unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
            try:
                for unit in islice(left, (jobs if fresh else len(units)) - len(waiting)):
                    executor = shared or _executor(1)
                    waiting[executor.submit(work, *unit)] = executor
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                executor = waiting.pop(future)
                if fresh:
                    executor.shutdown()  # its process ends, and frees its memory, before the next starts
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    raise UserError(
                        f"a process ended in the middle of its work, of {jobs} at a time (killed, or out of memory): "
                        "start again with fewer; what is finished is kept"
                    ) from error
                yield result
    except BaseException:
        for executor in [*waiting.values()] if shared is None else [shared]:
            executor.shutdown(wait=False, cancel_futures=True)
        ended = [child for child in active_children() if child not in others]
        for child in ended:
            child.terminate()
        for child in ended:
            child.join()
        raise
    if shared is not None:
        shared.shutdown()


def _executor(jobs: int) -> ProcessPoolExecutor:
    # spawn, because a fork of a process with threads may hang
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when its parent does, also if that is killed: it would wait for units for ever."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


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
