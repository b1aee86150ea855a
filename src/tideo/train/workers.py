"""`train.workers`: processes that read and decode the next examples while the model trains."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children, popen_spawn_posix
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from accelerate import PartialState  # type: ignore[import-untyped]

from tideo.types import UserError

MOST = 8  # of a process by default


class _Popen(popen_spawn_posix.Popen):
    """A process that no signal of a terminal or a job scheduler ends: it ends with the training's own process."""

    def __init__(self, process: Any) -> None:
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            super().__init__(process)  # the new process inherits what is blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def terminate(self) -> None:
        # It hears nothing else, and has nothing to finish.
        _let_workers_end()
        self.kill()


def _let_workers_end() -> None:
    """Without torch's handler, which makes an error of a worker that ends."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class _Worker(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)


class Spawning(SpawnContext):
    """New processes instead of forks, which may hang where libraries run threads or a GPU is in use."""

    Process = _Worker


@contextmanager
def ended() -> Iterator[None]:
    """Kill the workers that are left when the block ends: torch waits five seconds for each, at Ctrl-C too."""
    try:
        yield
    finally:
        left = [child for child in active_children() if isinstance(child, _Worker)]
        if left:
            _let_workers_end()
        for child in left:
            child.kill()


def num_workers(wanted: int | None, *, on_cpu: bool) -> int:
    """How many workers this process has: by default none on a CPU, else its share of the cores, at most MOST."""
    if wanted is not None:
        return wanted
    if on_cpu:
        return 0
    return max(1, min(MOST, (os.cpu_count() or 1) // PartialState().num_processes))


def loader_arguments(num: int) -> dict[str, Any]:
    """Arguments of torch's DataLoader for so many workers."""
    return {"num_workers": num, "multiprocessing_context": Spawning() if num else None}


def explained(error: RuntimeError) -> UserError | None:
    """What a worker's error says in one line, if it is the user's; None for others."""
    text = str(error)
    if "DataLoader worker" in text and "killed by signal" in text:
        return UserError(
            "a data worker was killed, as happens when memory runs out: set train.workers lower, or to 0, and go on "
            "with --resume"
        )
    return None


def unwrapped(error: UserError) -> UserError:
    """A UserError of a worker without the traceback that torch puts before it."""
    head, _, last = str(error).rstrip().rpartition("Error: ")
    return UserError(last) if head.startswith("Caught ") and "DataLoader worker" in head else error
