"""Checkpoints besides every so many steps, the history, SIGTERM, an out-of-memory, and where curves are drawn."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback

from conftest import Tideo
from tideo.train.history import read_history
from tideo.train.saving import ends_epoch
from tideo.train.trainer import fit, trainer_arguments
from tideo.types import UserError


class Numbers(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([index / 10.0])}


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.layer(x) - 2 * x).square().mean()}


class At(TrainerCallback):
    """Does something once, at the end of a step."""

    def __init__(self, step: int, what: Any) -> None:
        self.step, self.what = step, what

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.what()


def trainer_in(out: Path, *callbacks: TrainerCallback, steps: int = 10, keep: int = 9) -> Trainer:
    torch.manual_seed(0)
    arguments = trainer_arguments(
        out / "steps",
        steps=steps,
        batch=1,
        seed=0,
        bf16=False,
        device=torch.device("cpu"),
        save_steps=1000,
        log_steps=1,
        save_total_limit=keep,
    )
    return Trainer(model=Line(), args=arguments, train_dataset=Numbers(), callbacks=[*callbacks])


def checkpoints(out: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in (out / "steps").iterdir())


def test_an_epoch_ends_in_the_step_that_completes_it() -> None:
    assert [step for step in range(1, 9) if ends_epoch(step, epoch_steps=2.5)] == [3, 5, 8]
    assert not ends_epoch(5, epoch_steps=None)


def test_checkpoints_come_after_an_epoch_and_after_minutes(tmp_path: Path) -> None:
    fit(trainer_in(tmp_path / "a"), epoch_steps=4.0)
    assert checkpoints(tmp_path / "a") == [4, 8, 10]
    fit(trainer_in(tmp_path / "b", steps=3), save_minutes=1e-9)
    assert checkpoints(tmp_path / "b") == [1, 2, 3]


@pytest.mark.slow
def test_the_history_has_each_step_once_however_often_the_run_was_stopped(tmp_path: Path) -> None:
    fit(trainer_in(tmp_path / "whole"), epoch_steps=4.0)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(trainer_in(tmp_path / "part", At(7, stop)), epoch_steps=4.0)  # three steps after its checkpoint
    with (tmp_path / "part" / "history.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # killed in the middle of a line
    fit(trainer_in(tmp_path / "part"), epoch_steps=4.0, resume=True)
    whole, part = (read_history(tmp_path / name / "history.jsonl") for name in ("whole", "part"))
    told = [
        [(line["step"], line["epoch"], line["loss"], line["lr"]) for line in lines] for lines in (whole, part)
    ]
    assert told[0] == told[1]
    assert [line["step"] for line in part] == list(range(1, 11))
    assert [line["seconds"] for line in part] == sorted(line["seconds"] for line in part)
    assert part[-1]["memory_gib"] > 0
    fit(trainer_in(tmp_path / "part", steps=2))  # anew
    assert len(read_history(tmp_path / "part" / "history.jsonl")) == 2


@pytest.mark.parametrize(
    "times", [1, pytest.param(2, marks=pytest.mark.slow)]
)  # a job scheduler sends it, and the launcher sends it on
def test_sigterm_writes_a_checkpoint_and_still_ends_the_process(
    times: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def terminate() -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGTERM)

    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        fit(trainer_in(tmp_path, At(3, terminate)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert checkpoints(tmp_path) == [3]
    assert "terminated after step 3 of 10, which is in a checkpoint: --resume goes on" in caplog.text


def test_too_little_memory_in_a_step_is_one_line(tmp_path: Path) -> None:
    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    trainer = trainer_in(tmp_path)
    step = trainer.training_step
    trainer.training_step = lambda *a, **k: fail() if trainer.state.global_step == 5 else step(*a, **k)  # type: ignore[method-assign]
    with pytest.raises(
        UserError, match=r"step 6: the GPU's memory .* halve train.batch .*checkpoint-4 is whole"
    ):
        fit(trainer, epoch_steps=4.0)


def test_a_reporter_gets_the_numbers_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    fake: Any = types.ModuleType("trackio")
    fake.init = lambda **options: sent.append(options)
    fake.log = lambda values, step: sent.append((step, sorted(values)))
    fake.finish = lambda: sent.append("finish")
    monkeypatch.setitem(sys.modules, "trackio", fake)
    fit(trainer_in(tmp_path / "secret" / "run", steps=2), report_to="trackio")
    names = ["grad_norm", "loss", "lr"]
    assert sent == [{"project": "tideo", "name": "run", "resume": "never"}, (1, names), (2, names), "finish"]
    assert str(tmp_path) not in json.dumps(sent)


def test_a_reporter_that_is_not_installed_is_refused_at_once(
    tideo: Tideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    done = tideo("finetune", "dollhouse_grid", "--set", "train.report_to=wandb", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "wandb is not installed: run pip install 'tideo[wandb]'" in done.stderr
