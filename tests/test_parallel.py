"""Units of work in threads: a caller that stops does not wait for those that sleep."""

from __future__ import annotations

import threading
import time

import pytest

from tideo.child import ChildDied
from tideo.parallel import Failure, attempted, finished, sleep
from tideo.types import Stopped, VideoError


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
