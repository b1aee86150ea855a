"""The same work many times over: in several threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from tideo.types import Stopped

Unit = TypeVar("Unit")
Told = TypeVar("Told")


def finished(ask: Callable[[Unit], Told], units: Iterable[Unit], *, at_once: int) -> Iterator[Told]:
    """What `ask` gives for each unit, up to `at_once` of them asked at a time, in the order in which they finish.

    Where one raises Stopped, what is under way is waited for and given first.
    """
    if at_once == 1:
        yield from map(ask, units)
        return
    left, stopped = iter(units), None
    waiting: set[Future[Told]] = set()
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            if stopped is None:
                waiting |= {pool.submit(ask, unit) for unit in islice(left, at_once - len(waiting))}
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    yield future.result()
                except Stopped as error:
                    stopped = error
    if stopped is not None:
        raise stopped
