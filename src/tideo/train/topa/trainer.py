"""transformers' Trainer for pre-alignment: what is trained is small, and checkpoints hold it alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer  # type: ignore[import-untyped]

from tideo.models.prompts import IGNORE
from tideo.train.finite import CheckedTrainer
from tideo.train.parallel import whole_state
from tideo.train.topa.config import PrealignTraining
from tideo.train.topa.tasks import collate_examples


class PrealignTrainer(CheckedTrainer):
    """Checkpoints hold the trained tensors alone, as `PrefixLM.save_pretrained` writes them.

    The tensors of a checkpoint are read by `PrefixLM.load_trained` before this is made, since they are whole and a
    model that FSDP shards is not.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(self, *args: Any, training: PrealignTraining, **kwargs: Any) -> None:
        super().__init__(*args, data_collator=collate, compute_loss_func=share_of_step, **kwargs)
        self.training = training

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW without decay on vectors (biases, gates), as published; `proj_lr` as in the recipe."""
        if self.optimizer is not None:
            return self.optimizer
        training = self.training
        groups: dict[tuple[float, float], list[torch.Tensor]] = {}
        for name, parameter in (model or self.model).named_parameters():
            if parameter.requires_grad:
                factor = training.proj_lr if name.startswith(("visual_proj", "temporal_emb")) else 1.0
                decay = training.weight_decay if parameter.squeeze().ndim > 1 else 0.0
                groups.setdefault((self.args.learning_rate * factor, decay), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()],
            betas=training.betas,
        )
        return self.optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Every process must call this; the first one writes."""
        state = whole_state(self.model)
        if self.args.should_save:
            self.model.save_pretrained(output_dir or self.args.output_dir, state=state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        pass  # see the class

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # The Trainer would write the frozen language model too, gigabytes for each checkpoint.
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), os.path.join(output_dir, "scheduler.pt"))


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch with its labels also under the name by which the Trainer counts the tokens of a step."""
    batch = collate_examples(examples)
    return batch | {"labels": batch["labels_BL"]}


def share_of_step(outputs: Any, labels_BL: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """The batch's part of the mean over all tokens of a step, however many batches the step is made of.

    The published code takes the mean of the batches' means, which weighs the tokens of short answers more.
    """
    return outputs.loss * ((labels_BL != IGNORE).sum() / num_items_in_batch)
