"""When a training writes a checkpoint besides every so many steps: after minutes, after an epoch, at SIGTERM."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

TOGETHER_S = 5.0  # between signals of one and the same request


def ends_epoch(step: int, *, epoch_steps: float | None) -> bool:
    """Whether a pass over the training set ends in this step."""
    return epoch_steps is not None and math.floor(step / epoch_steps) > math.floor((step - 1) / epoch_steps)


class Saving(TrainerCallback):
    """Asks for a checkpoint `minutes` after the last one and at the end of each epoch of `epoch_steps` steps.

    After `stop` has been set, in any process, it asks for one at the end of the step, and ends the training.
    """

    def __init__(self, *, minutes: float | None, epoch_steps: float | None) -> None:
        self.minutes, self.epoch_steps = minutes, epoch_steps
        self.stop = False
        self.last_s = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.last_s = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.last_s = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        due = self.minutes is not None and time.monotonic() - self.last_s >= 60 * self.minutes
        due, self.stop = in_any_process([due, self.stop], device=args.device)
        if due or self.stop or ends_epoch(state.global_step, epoch_steps=self.epoch_steps):
            control.should_save = True
        if self.stop:
            control.should_training_stop = True


def in_any_process(flags: list[bool], *, device: torch.device) -> list[bool]:
    """Each flag, true if it is in any process of the training: a sharded checkpoint is written by all or none."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return flags
    values = torch.tensor(flags, dtype=torch.int32, device=device)
    distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


@contextmanager
def at_sigterm(saving: Saving) -> Iterator[None]:
    """SIGTERM sets `saving.stop` inside, and is sent anew at the end: so the process still ends as terminated.

    SLURM sends it before it preempts a job, to every process, and `accelerate launch` sends it on to its own: one that
    comes within TOGETHER_S of the first is the same. A later one ends the process at once.
    """
    before = signal.getsignal(signal.SIGTERM)
    first_s = 0.0
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        nonlocal first_s
        if not saving.stop:
            saving.stop, first_s = True, time.monotonic()
        elif time.monotonic() - first_s > TOGETHER_S:
            signal.signal(number, before)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if saving.stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)  # until it is handled
