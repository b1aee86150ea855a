"""transformers' Trainer with a learning rate for each module, a KL penalty, validation, and examples left out."""

from __future__ import annotations

import copy
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.nn import functional as F
from transformers import TrainerControl

from tideo.models.prompts import IGNORE
from tideo.train.finite import CheckedTrainer
from tideo.train.grid.modules import module_of
from tideo.train.grid.validation import Validation
from tideo.train.optim import muon_adamw
from tideo.train.skipped import Example, Skipped
from tideo.types import UserError

log = logging.getLogger(__name__)
WEIGHTS_FILE = "weights.safetensors"


class GridTrainer(CheckedTrainer):
    """`rates`: module → learning rate, if it differs from that of the arguments; `muon_lr`: Muon's, for all matrices.

    `kl` is the weight of KL(reference ‖ model) on the replies' tokens. The reference is the model before training:
    with LoRA the adapter's base model, else a frozen copy. `skipped` notes the examples that could not be read.
    `validation` is scored where the Trainer evaluates; with `keep_best` a checkpoint is kept of the step with the best
    accuracy and, among equals, the least loss.
    """

    optimizer: torch.optim.Optimizer | None
    control: TrainerControl

    def __init__(
        self,
        *args: Any,
        rates: dict[str, float] | None = None,
        muon_lr: float | None = None,
        kl: float = 0.0,
        skipped: Skipped | None = None,
        validation: Validation | None = None,
        keep_best: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.skipped, self.validation, self.keep_best = skipped, validation, keep_best
        self._unread: list[Example] = []  # not yet noted
        self.rates, self.kl, self.muon_lr = rates or {}, kl, muon_lr
        self.reference: Any = None
        if kl and not hasattr(self.model, "disable_adapter"):
            self.reference = copy.deepcopy(self.model).eval().requires_grad_(False)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is not None:
            return self.optimizer
        if self.muon_lr is not None:
            self.optimizer = muon_adamw(self.model, muon_lr=self.muon_lr, adamw_lr=self.args.learning_rate)
        else:
            groups: dict[tuple[float, float], list[Tensor]] = {}
            for name, parameter in (model or self.model).named_parameters():
                if parameter.requires_grad:
                    rate = self.rates.get(module_of(name), self.args.learning_rate)
                    decay = self.args.weight_decay if parameter.ndim > 1 else 0.0
                    groups.setdefault((rate, decay), []).append(parameter)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            options.pop("lr", None)
            self.optimizer = kind(
                [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()],
                **options,
            )
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self._is_sharded():
            super()._save(output_dir, state_dict)
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(folder / WEIGHTS_FILE))

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        self._unread += inputs.pop("skipped", [])
        if self.args.world_size == 1:
            self._note_unread()
        return super().training_step(model, inputs, *args, **kwargs)

    def _note_unread(self) -> None:
        if self.skipped is not None:
            self.skipped.gather(self._unread)
            self._unread = []

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._note_unread()  # a resumed run does not read these examples again
        super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self._note_unread()  # here all processes meet
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the validation set, log it and, if it is the best so far, ask for a checkpoint."""
        assert self.validation is not None
        scores = self.validation.score(self.model_wrapped, device=self.args.device)
        self.log(dict(scores))
        earlier = [_goodness(line) for line in self.state.log_history if "eval_loss" in line][:-1]
        if self.keep_best and all(_goodness(scores) > other for other in earlier):
            self.state.best_global_step = self.state.global_step
            self.control.should_save = True  # which writes the path of the best checkpoint into the state
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def load_best(self) -> None:
        """After training with `keep_best`: take the weights of the best step."""
        best = self.state.best_model_checkpoint
        if best is None or self.state.best_global_step == self.state.global_step:
            return
        log.info("the model is that of step %d, the best on the validation set", self.state.best_global_step)
        if self._is_sharded():
            self._load_best_model()
        else:
            self._load_from_checkpoint(best)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._is_sharded():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        try:
            load_model(self.model, str(Path(resume_from_checkpoint) / WEIGHTS_FILE))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{resume_from_checkpoint} is no checkpoint of this model ({reason}): start again without --resume"
            ) from error

    def _is_sharded(self) -> bool:
        """Whether PEFT, FSDP or DeepSpeed writes the checkpoints in a layout of its own.

        For other models this class writes them. The Trainer would use save_pretrained, which gives a LLaVA's weights
        other names than load_state_dict knows, and so would resume from the starting weights with only a warning.
        """
        return hasattr(self.model, "peft_config") or self.is_fsdp_enabled or self.is_deepspeed_enabled

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(
            model, dict(inputs), return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if self.kl:
            loss = loss + self.kl * self._kl(model, inputs, outputs.logits, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _kl(self, model: Any, inputs: dict[str, Any], logits: Tensor, num_items: Any) -> Tensor:
        """KL(reference ‖ model) in nats, the mean over the replies' tokens."""
        scored = inputs["labels"][:, 1:] != IGNORE
        batch = {k: v for k, v in inputs.items() if k != "labels"}
        inner = self.accelerator.unwrap_model(model)
        with torch.no_grad(), inner.disable_adapter() if self.reference is None else nullcontext():
            expected = (model if self.reference is None else self.reference)(**batch).logits[:, :-1][scored]
        logprobs = F.log_softmax(logits[:, :-1][scored].float(), dim=-1)
        total = F.kl_div(logprobs, F.log_softmax(expected.float(), dim=-1), reduction="sum", log_target=True)
        if num_items is None:
            return total / scored.sum().clamp(min=1)
        # Scaled like the Trainer's loss: the count is that of all processes, which average their gradients.
        world = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return total * world / _at_least_one(num_items)


def _goodness(scores: dict[str, float]) -> tuple[float, float]:
    """The accuracy and, among equals, the negative loss of an evaluation."""
    return scores.get("eval_accuracy", 0.0), -scores["eval_loss"]


def reply_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Mean negative log-likelihood of the replies' tokens.

    Only their logits become float32: most tokens belong to the images, and their logits are not needed.
    """
    scored = labels[:, 1:] != IGNORE
    logits = outputs.logits[:, :-1][scored].float()
    total = F.cross_entropy(logits, labels[:, 1:][scored], reduction="sum")
    return total / _at_least_one(scored.sum() if num_items_in_batch is None else num_items_in_batch)


def _at_least_one(num: Any) -> Any:
    """A number of tokens to divide by: a step whose examples were all left out has none."""
    return num.clamp(min=1) if isinstance(num, Tensor) else max(num, 1)
