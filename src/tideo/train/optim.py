"""Muon for matrices and AdamW for everything else, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers with one step, one state and one schedule.

    `kernels` maps each convolution to a matrix [out, rest] on the same memory, since Muon takes matrices only.
    """

    def __init__(
        self,
        muon: torch.optim.Optimizer,
        adamw: torch.optim.Optimizer,
        *,
        kernels: dict[nn.Parameter, nn.Parameter],
    ) -> None:
        self.parts, self.kernels = (muon, adamw), kernels
        super().__init__([p for part in self.parts for g in part.param_groups for p in g["params"]], {})
        self._share_groups()

    def _share_groups(self) -> None:
        # The same dictionaries as in the two optimisers, so that a scheduler's rate reaches both.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:
        for kernel, matrix in self.kernels.items():
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for part in self.parts:
            part.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for kernel in self.kernels:
            kernel.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def muon_adamw(
    model: nn.Module,
    *,
    muon_lr: float = 0.02,
    adamw_lr: float = 2e-3,
    weight_decay: float = 0.01,
    pace: Mapping[str, float] | None = None,
) -> MuonAdamW:
    """Muon for the weights of linear layers and convolutions; AdamW for embeddings, norms, biases, heads.

    `weight_decay` is for Muon's weights; the others have none. `pace` maps the start of a parameter's name to a
    factor of the learning rate.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    owners = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m is not head]
    # Convolutions come last, as matrices on the memory of their kernels.
    matrices = {m.weight: m.weight for m in owners if isinstance(m, nn.Linear)}
    kernels = {
        m.weight: nn.Parameter(m.weight.detach().flatten(1)) for m in owners if isinstance(m, nn.Conv2d)
    }
    names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    rest = {p: p for p in names if p not in matrices and p not in kernels}

    def paced(moved: Mapping[nn.Parameter, nn.Parameter], lr: float) -> list[dict[str, Any]]:
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in filter(names.get, moved):
            factor = next((f for start, f in (pace or {}).items() if names[parameter].startswith(start)), 1.0)
            groups.setdefault(factor, []).append(moved[parameter])
        return [{"params": parameters, "lr": lr * factor} for factor, parameters in groups.items()]

    return MuonAdamW(
        torch.optim.Muon(paced(matrices | kernels, muon_lr), weight_decay=weight_decay),
        torch.optim.AdamW(paced(rest, adamw_lr), betas=(0.9, 0.98), weight_decay=0.0),
        kernels=kernels,
    )
