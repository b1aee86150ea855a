"""The parts that all trainings share: arguments, progress lines, separate runs, resuming, a full disk.

Nothing here depends on a model.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tideo.device import has_bfloat16
from tideo.processes import Processes
from tideo.runs import same_recipe, write_run
from tideo.train import workers
from tideo.train.finite import StopAtNaN
from tideo.train.history import HISTORY_FILE, History
from tideo.train.one_device import on_one_device
from tideo.train.reporting import Reporting, reporter
from tideo.train.saving import Saving, at_sigterm
from tideo.types import UserError

log = logging.getLogger(__name__)


def trainer_arguments(
    out: str | Path,
    *,
    steps: int,
    batch: int,
    seed: int,
    bf16: bool,
    save_steps: int,
    log_steps: int,
    device: torch.device,
    accumulate: int = 1,
    **others: Any,
) -> TrainingArguments:
    """The arguments that all trainings have in common; `others` add to these, or replace them.

    Raises UserError for bf16 on a GPU without it.
    """
    if bf16 and device.type != "cpu" and not has_bfloat16(device):
        raise UserError(f"train.bf16=true: {device} has no bfloat16; set train.bf16=false")
    shared = {
        "output_dir": str(out),
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulate,
        "lr_scheduler_type": "cosine",
        "seed": seed,
        "bf16": bf16,
        "use_cpu": device.type == "cpu",
        "save_steps": save_steps,
        "save_total_limit": 1,
        "logging_steps": log_steps,
        "logging_nan_inf_filter": False,  # it would log the mean of earlier losses, or 0, for a loss of NaN
        "train_sampling_strategy": "sequential",  # the data sets shuffle themselves
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "report_to": [],
    }
    return on_one_device(TrainingArguments(**shared | others), device)


class ProgressLines(TrainerCallback):
    """A line on standard error at each logging step, with loss, learning rate, minutes left; and at each evaluation."""

    def __init__(self) -> None:
        self.start_s, self.first_step = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.start_s, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logs = kwargs.get("logs") or {}
        steps = state.global_step - self.first_step
        if not state.is_world_process_zero:
            return
        if "eval_loss" in logs:
            accuracy = f", {logs['eval_accuracy']:.1%} right" if "eval_accuracy" in logs else ""
            _say(f"validation at step {state.global_step}: loss {logs['eval_loss']:.4g}{accuracy}")
        if "loss" not in logs or not steps:
            return
        step_s = (time.monotonic() - self.start_s) / steps
        shown = [k for k in ("loss", "grad_norm", "learning_rate") if isinstance(logs.get(k), float)]
        values = " ".join(f"{k} {logs[k]:.4g}" for k in shown)
        left_min = step_s * (state.max_steps - state.global_step) / 60
        _say(f"step {state.global_step}/{state.max_steps} {values} · {left_min:.1f} min left")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def begin(
    out: str | Path,
    *,
    recipe: Any,
    resume: bool,
    steps: Sequence[str] = ("steps",),
    last_file: str | None = None,
) -> bool:
    """Write OUT/run.json and return True; return False if the run that `resume` names is finished.

    `steps` are the folders of checkpoints in OUT; `last_file` is the file that a run writes last, before it removes
    these. Raises UserError if OUT has checkpoints and `resume` is false, or if they belong to another recipe.
    """
    stopped = any(any((Path(out) / folder).glob("checkpoint-*")) for folder in steps)
    if resume and not stopped and last_file is not None and (Path(out) / last_file).is_file():
        same_recipe(out, recipe)
        log.info("%s is finished already", out)
        return False
    if stopped:
        if not resume:
            raise UserError(
                f"{out} holds checkpoints of a run: give --resume to go on, or another --out to start anew"
            )
        same_recipe(out, recipe)
    processes = Processes.launched()
    processes.wait()  # none writes before all have read the same
    if processes.first:
        if last_file is not None and not stopped:  # else a former run's weights would pass for this run's
            (Path(out) / last_file).unlink(missing_ok=True)
        write_run(out, recipe=recipe, seed=recipe.seed)
    processes.wait()
    return True


def fit(
    trainer: Trainer,
    *,
    resume: bool = False,
    save_minutes: float | None = None,
    epoch_steps: float | None = None,
    report_to: str | None = None,
) -> None:
    """Train to the end; with `resume`, from the last complete checkpoint in the output folder, if there is one.

    A checkpoint is written also `save_minutes` after the last one, after each `epoch_steps` steps, and at SIGTERM,
    which ends the training behind the step. The folder above that of the checkpoints gets history.jsonl. `report_to`
    is a name of train/reporting.py. Raises OSError (ENOSPC) if a checkpoint does not fit on the disk, and UserError if
    a step does not fit on the GPU; the last complete checkpoint stays.
    """
    trainer.remove_callback(PrinterCallback)  # it prints the losses once more, on standard out
    folder = Path(str(trainer.args.output_dir))
    saving = Saving(minutes=save_minutes, epoch_steps=epoch_steps)
    history = History(folder.parent / HISTORY_FILE, epoch_steps=epoch_steps)
    for callback in (ProgressLines(), StopAtNaN(trainer), history, saving):
        trainer.add_callback(callback)
    last = last_checkpoint(folder) if resume else None
    if last is not None:
        _warn_of_other_world(Path(last), now=trainer.args.world_size)
    with reporter(report_to, out=folder.parent, resume=last is not None) as log_values, at_sigterm(saving):
        if log_values is not None:
            trainer.add_callback(Reporting(log_values))
        with _explained(trainer, folder):
            trainer.train(resume_from_checkpoint=last)
        if saving.stop:
            log.warning(
                "terminated after step %d of %d, which is in a checkpoint: --resume goes on",
                trainer.state.global_step, trainer.state.max_steps,
            )  # fmt: skip


@contextmanager
def _explained(trainer: Trainer, folder: Path) -> Iterator[None]:
    """Errors in the middle of a training in the user's words: no memory, a full disk, an error of a data worker."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        step = trainer.state.global_step
        raise UserError(
            f"step {step + 1}: the GPU's memory is not enough: halve train.batch and double train.accumulate, which "
            "--resume takes too; or set train.gradient_checkpointing=true, train.parallel, LoRA or 4 bits "
            f"({_kept(folder)})"
        ) from error
    except UserError as error:
        raise workers.unwrapped(error) from error
    except (RuntimeError, OSError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and (known := workers.explained(error)) is not None:
            raise known from error
        # Each library reports a full disk differently, torch.save as a wrong position in a file.
        weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
        if not folder.is_dir() or shutil.disk_usage(folder).free >= weights:
            raise
        last_checkpoint(folder)
        raise OSError(errno.ENOSPC, "the disk is full in the middle of a checkpoint", str(folder)) from error


def _kept(folder: Path) -> str:
    last = last_checkpoint(folder)
    return "there is no checkpoint yet" if last is None else f"the checkpoint {last} is whole"


def _warn_of_other_world(checkpoint: Path, *, now: int) -> None:
    """A step's examples are those of all processes, so with fewer or more of them another training goes on."""
    before = len(list(checkpoint.glob("rng_state*.pth")))  # the Trainer writes one for each process
    if before not in (0, now):
        log.warning(
            "%s is of %d processes and this is %d: each step learns from %s times as many examples as before",
            checkpoint, before, now, f"{now / before:g}",
        )  # fmt: skip


def last_checkpoint(folder: Path) -> str | None:
    """The last complete checkpoint; others, of a killed process or a full disk, are removed with a warning.

    The Trainer writes trainer_state.json last.
    """
    last = None
    for path in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2])):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            last = str(path)
        except (OSError, ValueError):
            log.warning("%s is incomplete and was removed", path)
            shutil.rmtree(path, ignore_errors=True)  # another process of this run may remove it too
    return last
