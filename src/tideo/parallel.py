"""The same work many times over: in several threads of this process, or on a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

from tideo.types import Stopped, UserError

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


def _reach(ray: str) -> None:
    """Raises UserError where nothing listens at a cluster's HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = ray.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {ray} ({error}): start it, or give `local`") from error


def spread(
    work: Callable[[Unit], Told], units: Sequence[Unit], *, ray: str | None = None
) -> Iterator[tuple[Unit, Told]]:
    """Each unit with what `work` gives for it: here, in order; or on a Ray cluster, in the order in which they finish.

    `ray` is the cluster's address, or `local` for one on this machine. A unit whose worker dies is done again, up to
    three times. What `work` raises is raised here.
    """
    if ray is None:
        for unit in units:
            yield unit, work(unit)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # else it warns of what it will do one day
    try:
        import ray as cluster
    except ModuleNotFoundError as error:
        raise UserError("ray is not installed: run pip install 'tideo[ray]' to use it") from error
    started = not cluster.is_initialized()
    if started:
        _reach(ray)
        address = None if ray == "local" else ray
        cluster.init(address=address, log_to_driver=False, include_dashboard=False)
    try:
        remote: Any = cluster.remote(max_retries=3)(lambda unit: work(unit))
        waiting = {remote.remote(unit): unit for unit in units}
        while waiting:
            done, _ = cluster.wait(list(waiting))
            for future in done:
                yield waiting.pop(future), cluster.get(future)
    finally:
        if started:
            cluster.shutdown()
