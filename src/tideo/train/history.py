"""OUT/history.jsonl: a line for each logging step and each evaluation of a training.

A line of a step has `step`, `loss`, `lr`, `seconds` of training (of all starts together) and `memory_gib`, the peak of
the GPU or, without one, of the process; where they are known also `epoch`, `grad_norm` and `tokens`, those computed so
far with padding. A line of an evaluation has `step`, `eval_loss` and, of questions with options, `eval_accuracy`.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tideo.store.files import atomic_write_text

HISTORY_FILE = "history.jsonl"
GIB = 2**30
# what the Trainer calls a value → what it is called here
_NAMES = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "num_input_tokens_seen": "tokens",
}


class History(TrainerCallback):
    """Writes each line at once. A resumed run goes on behind its checkpoint, so no step is there twice."""

    def __init__(self, path: Path, *, epoch_steps: float | None = None) -> None:
        self.path, self.epoch_steps = path, epoch_steps
        self.seconds, self.start_s = 0.0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.start_s = time.monotonic()
        if state.is_world_process_zero:
            kept = [line for line in read_history(self.path) if line["step"] <= state.global_step]
            self.seconds = kept[-1]["seconds"] if kept else 0.0
            if kept or self.path.exists():
                atomic_write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        values = values_of(kwargs.get("logs") or {})
        if not values or not state.is_world_process_zero:
            return
        line: dict[str, Any] = {"step": state.global_step}
        if self.epoch_steps:
            line["epoch"] = round(state.global_step / self.epoch_steps, 4)
        line |= values
        line["seconds"] = round(self.seconds + time.monotonic() - self.start_s, 3)
        line["memory_gib"] = round(peak_memory(args.device) / GIB, 3)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def values_of(logs: dict[str, Any]) -> dict[str, float | None]:
    """What is kept of the Trainer's log: of a step or an evaluation, not of the end. A NaN becomes None."""
    names = _NAMES if "loss" in logs else {}
    kept = {new: logs[old] for old, new in names.items() if old in logs}
    kept |= {name: value for name, value in logs.items() if name.startswith("eval_")}
    return {name: value if math.isfinite(value) else None for name, value in kept.items()}


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a history.jsonl; a last line that was cut off by a kill is left out."""
    lines = []
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that PyTorch has held on the device; where it does not count, the most of the process."""
    counted = (
        None
        if device.type == "cpu"
        else getattr(torch.get_device_module(device), "max_memory_allocated", None)
    )
    if counted is not None:
        return int(counted())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
