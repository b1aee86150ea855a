"""What the trainings of the tiny models share: arguments for a CPU, and glibc's heap, which costs a third of a step."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

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
    schedule: str = "linear",
    seed: int = 0,
    save_steps: int = 500,
    log_steps: int = 50,
    shuffle: bool = False,
    max_grad_norm: float = 1.0,
) -> TrainingArguments:
    """Arguments for training on a CPU. `batch` counts items; learning rates are the optimiser's.

    With `shuffle` off, items come by index: the data set gives the order.
    """
    return TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=batch,
        warmup_steps=warmup_steps,
        lr_scheduler_type=schedule,
        seed=seed,
        save_steps=save_steps,
        save_total_limit=2,
        logging_steps=log_steps,
        bf16=bf16,
        max_grad_norm=max_grad_norm,
        use_cpu=True,
        train_sampling_strategy="random" if shuffle else "sequential",
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )


def fit(trainer: Trainer, *, resume: bool = False) -> None:
    """As `train.trainer.fit`, with a heap that suits small batches."""
    keep_heap()
    trainer.add_callback(TrimHeap())
    general.fit(trainer, resume=resume)


def keep_heap() -> None:
    """Tell glibc to keep freed memory instead of giving it back and faulting it in again."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class TrimHeap(TrainerCallback):
    """Every hundred steps freed memory goes back after all: batches of changing shape fragment a heap that is kept."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trim = _of_glibc("malloc_trim")
        if trim is not None and state.global_step % 100 == 0:
            trim(0)


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
