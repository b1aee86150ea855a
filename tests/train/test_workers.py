"""Data workers: the same training as without, and errors in one line."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from grid_training import config_for
from tideo.config import override
from tideo.train.grid.finetune import finetune
from tideo.train.history import read_history
from tideo.train.workers import Spawning, ended, explained, num_workers, unwrapped
from tideo.types import UserError


@pytest.mark.slow  # each worker imports torch
def test_the_examples_are_those_without_workers(tmp_path: Path) -> None:
    config = config_for(tmp_path, keep_features=False)
    alone = finetune(config, out=tmp_path / "a")
    shared = finetune(override(config, ["train.workers=2"]), out=tmp_path / "b")
    losses = [[line["loss"] for line in read_history(out / "history.jsonl")] for out in (alone, shared)]
    assert losses[0] == losses[1]
    kept = finetune(override(config, ["train.workers=2", "keep_features=true"]), out=tmp_path / "c")
    assert [line["loss"] for line in read_history(kept / "history.jsonl")] == pytest.approx(
        losses[0], abs=2e-3
    )


def test_an_interrupted_training_leaves_no_worker() -> None:
    worker = Spawning().Process(target=time.sleep, args=(60,))
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        with ended():
            worker.start()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGCHLD, handler)
    worker.join(5)
    assert worker.exitcode == -signal.SIGKILL


def test_a_cpu_has_none_by_default() -> None:
    assert num_workers(None, on_cpu=True) == 0
    assert num_workers(3, on_cpu=True) == 3
    assert 1 <= num_workers(None, on_cpu=False) <= 8


def test_errors_of_workers_are_one_line() -> None:
    wrapped = UserError(
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1\ntideo.types.UserError: the text contains <image>: rephrase it\n'
    )
    assert str(unwrapped(wrapped)) == "the text contains <image>: rephrase it"
    plain = UserError("as it is: Error: kept")
    assert unwrapped(plain) is plain
    killed = explained(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    assert "set train.workers lower" in str(killed)
    assert explained(RuntimeError("size mismatch")) is None
