"""The KL penalty of the Trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grid_training import (
    batch_of,
    conversation,
)
from tideo.models.prompts import IGNORE
from tideo.train.grid.trainer import GridTrainer
from tiny_vlms import made


@pytest.mark.slow
def test_a_penalty_holds_the_predictions_back(tmp_path: Path) -> None:
    model, processor = made("llava")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    batch = batch_of(processor, [conversation(i) for i in range(3)])

    def divergence(kl: float) -> float:
        model.load_state_dict(start)
        from transformers import TrainingArguments

        arguments = TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, max_steps=8, learning_rate=3e-3, report_to=[], save_strategy="no",
            per_device_train_batch_size=1, remove_unused_columns=False, disable_tqdm=True,
        )  # fmt: skip
        trainer = GridTrainer(
            model=model,
            args=arguments,
            train_dataset=[0] * 8,
            data_collator=lambda _: dict(batch),
            kl=kl,
        )  # type: ignore[arg-type]
        with torch.no_grad():
            first = model(**batch).logits.log_softmax(-1)
        trainer.train()
        with torch.no_grad():
            now = model(**batch).logits.log_softmax(-1)
        scored = batch["labels"][:, 1:] != IGNORE
        return float((first.exp() * (first - now)).sum(-1)[:, :-1][scored].mean())

    assert divergence(10.0) < 0.5 * divergence(0.0)
