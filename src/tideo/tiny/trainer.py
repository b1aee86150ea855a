"""The parts that trainings of tiny models share: arguments for a CPU, and a heap that keeps freed memory.

The heap serves all of `tideo train`; `tideo prealign` and `tideo finetune` do without it.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tideo.train import trainer as general

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def cpu_arguments(
    out: str | Path,
    *,
    steps: int,
    batch: int,
    bf16: bool,
    warmup_steps: int = 0,
    seed: int = 0,
    save_steps: int = 500,
    log_steps: int = 50,
) -> TrainingArguments:
    """Arguments for training on a CPU. `batch` is a number of items; the optimiser has the learning rates."""
    return general.trainer_arguments(
        out,
        steps=steps,
        batch=batch,
        seed=seed,
        bf16=bf16,
        save_steps=save_steps,
        log_steps=log_steps,
        warmup_steps=warmup_steps,
        lr_scheduler_type="linear",
        save_total_limit=2,
        device=torch.device("cpu"),
        dataloader_drop_last=True,
    )


def fit(trainer: Trainer, *, resume: bool = False, **options: Any) -> None:
    """Like `train.trainer.fit`, with the same options and a heap that suits small batches."""
    keep_heap()
    trainer.add_callback(TrimHeap())
    general.fit(trainer, resume=resume, **options)


def keep_heap() -> None:
    """Let glibc keep freed memory, instead of returning it to the system and faulting it in again."""
    mallopt = _glibc_function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class TrimHeap(TrainerCallback):
    """Returns freed memory every hundred steps, since batches of changing shape fragment a heap that never shrinks."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trim = _glibc_function("malloc_trim")
        if trim is not None and state.global_step % 100 == 0:
            trim(0)


def _glibc_function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
