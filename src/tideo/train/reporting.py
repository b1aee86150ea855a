"""`train.report_to`: the losses of a training as curves in TensorBoard, Weights & Biases or Trackio.

Only the numbers of history.jsonl are sent, under the name of the output folder: no paths, no keys, no source, and not
the machine's name, which the integrations of transformers would send.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from accelerate import PartialState  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tideo import registry
from tideo.store.files import atomic_write_text
from tideo.train.history import values_of
from tideo.types import UserError

Reporter = Literal["tensorboard", "wandb", "trackio"]
PROJECT = "tideo"
Values = dict[str, float | None]
Log = Callable[[Values, int], None]


def check_reporter(name: str | None) -> None:
    """Raises UserError if its package is not installed."""
    if name is not None:
        registry.require(name)


class Reporting(TrainerCallback):
    """Sends the numbers of the main process."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        values = values_of(kwargs.get("logs") or {})
        if values and state.is_world_process_zero:
            self.log({k: v for k, v in values.items() if v is not None}, state.global_step)


@contextlib.contextmanager
def reporter(name: str | None, *, out: Path, resume: bool) -> Iterator[Log | None]:
    """What sends the values of a step; None for no reporter."""
    if name is None or not PartialState().is_main_process:
        yield None
        return
    with _REPORTERS[name](out, resume) as log:
        yield log


@contextlib.contextmanager
def _tensorboard(out: Path, resume: bool) -> Iterator[Log]:
    registry.require("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / "tensorboard")) as writer:

        def log(values: Values, step: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield log


@contextlib.contextmanager
def _wandb(out: Path, resume: bool) -> Iterator[Log]:
    wandb: Any = registry.require("wandb")
    quiet = wandb.Settings(
        console="off", disable_code=True, disable_git=True, save_code=False, silent=True,
        x_disable_meta=True, x_disable_machine_info=True,
    )  # fmt: skip
    known = out / "wandb.txt"  # the id of the run, with which a resumed training goes on in the same curves
    run_id = (
        known.read_text(encoding="utf-8").strip() if resume and known.is_file() else uuid.uuid4().hex[:12]
    )
    atomic_write_text(known, run_id + "\n")
    try:
        started = wandb.init(
            project=PROJECT, name=out.name, id=run_id, resume="allow" if resume else None, dir=str(out),
            settings=quiet,
        )  # fmt: skip
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"report_to=wandb: {reason}; run `wandb login`, or set WANDB_MODE=offline to send it later"
        ) from error
    with started as run:
        yield lambda values, step: run.log(values, step=step)


@contextlib.contextmanager
def _trackio(out: Path, resume: bool) -> Iterator[Log]:
    trackio: Any = registry.require("trackio")
    trackio.init(project=PROJECT, name=out.name, resume="allow" if resume else "never")
    try:
        yield lambda values, step: trackio.log(values, step=step)
    finally:
        trackio.finish()


_REPORTERS: dict[str, Callable[[Path, bool], contextlib.AbstractContextManager[Log]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
