"""transformers' Trainer with the rates of an image-text model's parts and a penalty on leaving its starting point."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer

from tideo.train.documents import IGNORE
from tideo.train.parts import part_of


class GridTrainer(Trainer):
    """`rates`: part → learning rate, where it is not the arguments'. `distill` weighs KL(start ‖ now) on the replies.

    The starting model is the adapter's base where there is LoRA, else a frozen copy.
    """

    def __init__(
        self, *args: Any, rates: dict[str, float] | None = None, distill: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rates, self.distill = rates or {}, distill
        self.start: Any = None
        if distill and not hasattr(self.model, "disable_adapter"):
            self.start = copy.deepcopy(self.model).eval().requires_grad_(False)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if not getattr(self, "optimizer", None):
            groups: dict[tuple[float, float], list[Tensor]] = {}
            for name, parameter in (model or self.model).named_parameters():
                if parameter.requires_grad:
                    rate = self.rates.get(part_of(name), self.args.learning_rate)
                    decay = self.args.weight_decay if parameter.ndim > 1 else 0.0
                    groups.setdefault((rate, decay), []).append(parameter)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            options.pop("lr", None)
            self.optimizer = kind(
                [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()],
                **options,
            )
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(
            model, dict(inputs), return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if self.distill:
            loss = loss + self.distill * self._left(model, inputs, outputs.logits, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _left(self, model: Any, inputs: dict[str, Any], logits: Tensor, num_items: Any) -> Tensor:
        """KL(start ‖ now) a reply token, in nats."""
        scored = inputs["labels"][:, 1:] != IGNORE
        given = {k: v for k, v in inputs.items() if k != "labels"}
        inner = self.accelerator.unwrap_model(model)
        with torch.no_grad(), inner.disable_adapter() if self.start is None else nullcontext():
            start = (model if self.start is None else self.start)(**given).logits[:, :-1][scored]
        now = F.log_softmax(logits[:, :-1][scored].float(), dim=-1)
        total = F.kl_div(now, F.log_softmax(start.float(), dim=-1), reduction="sum", log_target=True)
        return total / (num_items if num_items is not None else scored.sum().clamp(min=1))
