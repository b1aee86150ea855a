"""What all trainings share: progress lines, a run that is not mixed with another, resuming, a full disk.

Nothing here knows a model.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tideo.runs import same_recipe, write_run
from tideo.types import UserError

log = logging.getLogger(__name__)


class ProgressLines(TrainerCallback):
    """One line to standard error at each logging step: step, loss, rate, minutes left."""

    def __init__(self) -> None:
        self.begun_s, self.first_step = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.begun_s, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logs = kwargs.get("logs") or {}
        done = state.global_step - self.first_step
        if "loss" not in logs or not done or not state.is_world_process_zero:
            return
        step_s = (time.monotonic() - self.begun_s) / done
        told = " ".join(f"{k} {v:.4g}" for k, v in logs.items() if isinstance(v, float) and k != "epoch")
        left_min = step_s * (state.max_steps - state.global_step) / 60
        print(
            f"step {state.global_step}/{state.max_steps} {told} · {left_min:.1f} min left",
            file=sys.stderr,
            flush=True,
        )


def begin(
    out: str | Path, *, recipe: Any, resume: bool, steps: Sequence[str] = ("steps",), done: str | None = None
) -> bool:
    """Write OUT/run.json, unless that would mix two runs; False where a run to resume is done, and nothing is to do.

    `steps`: the folders of the checkpoints in OUT; `done`: the file that a run writes last, before it takes those away.
    Raises UserError where checkpoints lie in OUT and `resume` is not asked for, or they are of another recipe.
    """
    stopped = any(any((Path(out) / folder).glob("checkpoint-*")) for folder in steps)
    if resume and not stopped and done is not None and (Path(out) / done).is_file():
        same_recipe(out, recipe)
        log.info("%s is done already", out)
        return False
    if stopped:
        if not resume:
            raise UserError(
                f"{out} holds checkpoints of a run: give --resume to go on, or another --out to start anew"
            )
        same_recipe(out, recipe)
    if done is not None and not stopped:
        (Path(out) / done).unlink(missing_ok=True)  # of a run before, whose weights would pass for this one's
    write_run(out, recipe=recipe, seed=recipe.seed)
    return True


def fit(trainer: Trainer, *, resume: bool = False) -> None:
    """Train to the end; with `resume`, from the last whole checkpoint in the output folder, if there is one.

    Raises OSError (ENOSPC) where a checkpoint finds the disk full; the last whole one is left as it is.
    """
    trainer.add_callback(ProgressLines())
    folder = Path(str(trainer.args.output_dir))
    last = last_checkpoint(folder) if resume else None
    try:
        trainer.train(resume_from_checkpoint=last)
    except (RuntimeError, OSError, SafetensorError) as error:
        # Libraries tell a full disk in words of their own, torch.save as a wrong position in a file.
        weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
        if not folder.is_dir() or shutil.disk_usage(folder).free >= weights:
            raise
        last_checkpoint(folder)
        raise OSError(errno.ENOSPC, "the disk is full in the middle of a checkpoint", str(folder)) from error


def last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that is whole; those that a kill or a full disk left half written are removed, and told.

    The Trainer writes trainer_state.json last.
    """
    last = None
    for path in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2])):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            last = str(path)
        except (OSError, ValueError):
            log.warning("%s was left half written: removed", path)
            shutil.rmtree(path, ignore_errors=True)  # another process of this run may be at it too
    return last
