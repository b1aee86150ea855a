"""A training stops at the first loss or gradient that is no number, before a weight changes.

transformers trains on (https://github.com/huggingface/trl/issues/6702). Nothing is lost: the last checkpoint has the
weights of a step that was finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tideo.types import UserError

NAMED = 8  # examples of a batch that a message names
_REMEDY = "start again, in another --out, with a lower train.lr or with train.bf16=false"


class CheckedTrainer(Trainer):
    """Checks each batch's loss. A data set that has `name_of(index)` gives the names of the batch's examples."""

    _counted: tuple[int, int] = (-1, 0)  # step, batches of it so far

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        step, batches = self._counted
        same = step == self.state.global_step
        self._counted = (self.state.global_step, batches + 1 if same else 1)
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        return loss

    def _save_rng_state(self, output_dir: str) -> None:
        """Each process writes its own; the first one then says that the checkpoint is whole."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if model.training and not torch.isfinite(loss):
            per_step = self.args.gradient_accumulation_steps
            number = self.state.global_step * per_step + self._counted[1] - 1
            raise _no_numbers(
                self.state.global_step + 1, f"the loss is {loss.item()}", batch_of(self, number, 1)
            )
        return (loss, outputs) if return_outputs else loss


class StopAtNaN(TrainerCallback):
    """Raises UserError before a step with gradients that are no numbers, and before weights that are none are saved.

    The weights are looked at before each checkpoint and at the last step.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        grads = {n: p.grad for n, p in kwargs["model"].named_parameters() if p.grad is not None}
        finite = {name: torch.isfinite(_own(grad)).all() for name, grad in grads.items()}
        if finite and not torch.stack(list(finite.values())).all():
            worst = next(name for name, value in finite.items() if not value)
            per_step = args.gradient_accumulation_steps
            batch = batch_of(self.trainer, state.global_step * per_step, per_step)
            raise _no_numbers(state.global_step + 1, f"the gradient of {worst} is no number", batch)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_save or state.global_step == state.max_steps:
            for name, parameter in kwargs["model"].named_parameters():
                if parameter.requires_grad and not torch.isfinite(_own(parameter)).all():
                    what = f"{name} holds values that are no numbers"
                    raise UserError(f"step {state.global_step}: {what}, and they are not saved: {_REMEDY}")


def batch_of(trainer: Trainer, first: int, num: int) -> Sequence[str]:
    """The names of the examples in `num` batches of this process from its batch `first` on.

    Examples come in order (train_sampling_strategy), and batches go to the processes in turn. An empty list if the
    data set names none.
    """
    examples: Any = trainer.train_dataset
    if not hasattr(examples, "name_of"):
        return []
    size, world, rank = (
        trainer.args.per_device_train_batch_size,
        trainer.args.world_size,
        trainer.args.process_index,
    )
    starts = [((first + batch) * world + rank) * size for batch in range(num)]
    return [examples.name_of(i) for s in starts for i in range(s, min(s + size, len(examples)))]


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Of a tensor that FSDP shards, the share of this process."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _no_numbers(step: int, what: str, names: Sequence[str]) -> UserError:
    named = ", ".join(dict.fromkeys(names[:NAMED]))
    others = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    batch = f" at the batch of {named}{others}" if names else ""
    return UserError(
        f"step {step}: {what}{batch}, so the step was not taken and the last checkpoint is whole: look at these "
        f"examples, or {_REMEDY}"
    )
