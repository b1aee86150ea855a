"""Units of work in threads and processes: none outlives a caller that stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import pytest

from tideo.child import ChildDied
from tideo.parallel import Failure, attempted, finished, in_processes, sleep
from tideo.types import Stopped, UserError, VideoError


def test_a_sleep_is_as_long_as_asked() -> None:
    begun_s = time.monotonic()
    sleep(0.05)
    assert list(finished(lambda unit: (sleep(0.05), unit)[1], [1, 2], at_once=2)) in ([1, 2], [2, 1])
    assert 0.1 <= time.monotonic() - begun_s < 5


@pytest.mark.parametrize("why", ["interrupted", "closed"])
def test_units_that_sleep_are_given_up_with_the_run(why: str) -> None:
    asleep = threading.Event()

    def work(unit: int) -> int:
        if unit:
            asleep.set()
            sleep(3600)
        return unit

    begun_s = time.monotonic()
    results = finished(work, [0, 1], at_once=2)
    assert next(results) == 0
    assert asleep.wait(30)
    if why == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    else:
        results.close()
    assert time.monotonic() - begun_s < 60


def test_stopped_gives_up_those_that_sleep_and_keeps_those_that_finish() -> None:
    begun = threading.Barrier(3)

    def work(unit: str) -> str:
        begun.wait(30)
        if unit == "stops":
            raise Stopped("no more")
        sleep(3600) if unit == "sleeps" else time.sleep(0.1)
        return unit

    results = finished(work, ["stops", "sleeps", "works"], at_once=3)
    assert next(results) == "works"
    with pytest.raises(Stopped, match="no more"):
        next(results)


def pid_of(unit: int) -> tuple[int, int]:
    return unit, os.getpid()


@pytest.mark.parametrize("fresh", [False, True])
def test_processes_are_shared_by_units_or_fresh_for_each(fresh: bool) -> None:
    results = dict(in_processes(pid_of, [(unit,) for unit in range(4)], jobs=2, fresh=fresh))
    assert sorted(results) == [0, 1, 2, 3]
    assert os.getpid() not in results.values()
    assert (len(set(results.values())) == 4) is fresh
    assert not active_children()
    with pytest.raises(ValueError, match="0 jobs: expected at least 1"):
        next(in_processes(pid_of, [(0,)], jobs=0, fresh=fresh))


def test_a_fresh_process_starts_when_the_one_before_has_ended() -> None:
    results = in_processes(pid_of, [(unit,) for unit in range(3)], jobs=1, fresh=True)
    for _, pid in results:
        assert pid not in {child.pid for child in active_children()}


def fails(unit: int) -> None:
    if unit == 0:
        raise UserError("the first one")
    time.sleep(600)


@pytest.mark.parametrize("fresh", [False, True])
def test_after_an_error_all_processes_are_ended(fresh: bool) -> None:
    with pytest.raises(UserError, match="the first one"):
        list(in_processes(fails, [(0,), (1,), (2,)], jobs=2, fresh=fresh))
    assert not active_children()


def dies(unit: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_process_that_is_killed_is_one_line(fresh: bool) -> None:
    with pytest.raises(UserError, match="a process ended in the middle of its work, of 2 at a time"):
        list(in_processes(dies, [(0,), (1,)], jobs=2, fresh=fresh))
    assert not active_children()


KILLED = """
import os, time
from tideo.parallel import in_processes

def work(unit):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    list(in_processes(work, [(1,), (2,)], jobs=2))
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(KILLED)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        for _ in range(2):
            assert parent.stdout.readline().strip().isdigit()
        parent.kill()
        assert parent.stdout.read() == ""  # which ends when no process has the other end of the pipe
    parent.wait()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (VideoError("no\nframe"), "no frame"),
        (ChildDied("its process ended"), "its process ended"),
        (ConnectionError("reset"), "ConnectionError: reset"),
        (IndexError(), "IndexError"),
    ],
)
def test_a_unit_that_fails_three_times_is_a_failure(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tideo.parallel.PAUSE_S", 0.0)
    tried: list[int] = []

    def work(succeeds_at: int) -> str:
        tried.append(succeeds_at)
        if len(tried) < succeeds_at:
            raise error
        return "done"

    assert attempted(work, 3) == "done"
    tried.clear()
    assert attempted(work, 4) == Failure(reason=reason, attempts=3)
    assert len(tried) == 3
