"""A loss, a gradient or a weight that is no number ends a training, and the batch is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from grid_training import config_for
from tideo.train.finite import CheckedTrainer, batch_of
from tideo.train.grid.finetune import finetune
from tideo.train.trainer import fit, trainer_arguments
from tideo.types import UserError


class Numbers(Dataset[dict[str, Any]]):
    """Sixteen examples, one of which is `bad`."""

    def __init__(self, bad: float, at: int) -> None:
        self.values = [bad if i == at else 1.0 for i in range(16)]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.tensor([self.values[index]])}

    def name_of(self, index: int) -> str:
        return f"number {index}"


class Root(torch.nn.Module):
    """The mean of w · sqrt(x): finite at 0, where the gradient of what is before the root is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * x).sqrt().mean()}


def train(data: Numbers, out: Path, *, batch: int, accumulate: int) -> None:
    arguments = trainer_arguments(
        out, steps=4, batch=batch, accumulate=accumulate, seed=0, bf16=False, save_steps=1, log_steps=100,
        learning_rate=1e-3,
    )  # fmt: skip
    fit(CheckedTrainer(model=Root(), args=arguments, train_dataset=data))


@pytest.mark.parametrize(
    ("batch", "accumulate", "bad", "told"),
    [
        (4, 1, float("nan"), "step 3: the loss is nan at the batch of number 8, number 9, number 10, number 11, so"),
        (2, 2, float("inf"), "step 3: the loss is inf at the batch of number 8, number 9, so the step was not taken"),
        (4, 1, 0.0, "step 3: the gradient of weight is no number at the batch of number 8, number 9, number 10,"),
    ],
)  # fmt: skip
def test_the_step_is_not_taken(batch: int, accumulate: int, bad: float, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        train(Numbers(bad, at=9), tmp_path, batch=batch, accumulate=accumulate)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").is_file()


def test_the_batches_of_several_processes_are_told_apart() -> None:
    """Batch after batch goes to the processes in turn."""
    args = SimpleNamespace(per_device_train_batch_size=2, world_size=2, process_index=1)
    trainer: Any = SimpleNamespace(train_dataset=Numbers(0.0, at=0), args=args)
    assert batch_of(trainer, 1, 2) == ["number 6", "number 7", "number 10", "number 11"]
    trainer.train_dataset = list(range(16))
    assert batch_of(trainer, 1, 2) == []


@pytest.mark.slow
def test_a_finetuning_names_its_conversations(tmp_path: Path) -> None:
    config = config_for(tmp_path, keep_features=False)
    config = replace(config, train=replace(config.train, lr=1e30))
    with pytest.raises(
        UserError, match=r"step 3: the loss is nan at the batch of conversation \S+, conversation "
    ):
        finetune(config, out=tmp_path / "out")
    assert not (tmp_path / "out" / "grid.json").exists()
