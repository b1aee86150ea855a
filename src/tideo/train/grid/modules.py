"""The modules of an image-text model, and which of them learn: vision tower, projector, language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import nn

from tideo.types import UserError

ModuleName = Literal["tower", "projector", "llm"]
MODULES: tuple[str, ...] = get_args(ModuleName)
_TOWERS = ("vision_tower", "vision_model", "visual")
# What brings the tower's output to the language model, in the families of transformers.
_PROJECTORS = ("multi_modal_projector", "connector", "image_newline", "merger", "mlp1", "modality_projection")


def module_of(parameter: str) -> str:
    """The module that a parameter belongs to, by its name."""
    steps = parameter.split(".")
    if any(step in _PROJECTORS for step in steps):
        return "projector"
    return "tower" if any(step in _TOWERS for step in steps) else "llm"


def train_only(model: nn.Module, modules: Sequence[str]) -> None:
    """Freeze all other modules. Raises UserError where the model has no weight of one of these."""
    found = set()
    for name, parameter in model.named_parameters():
        module = module_of(name)
        found.add(module)
        parameter.requires_grad_(module in modules and parameter.is_floating_point())
    if missing := [module for module in modules if module not in found]:
        raise UserError(f"{type(model).__name__} has no {missing[0]} to train: leave it out of modules")


def with_lora(model: Any, *, rank: int, alpha: int, modules: Sequence[str]) -> Any:
    """A PEFT model: LoRA on every linear layer of the language model; other trained modules learn in full."""
    from peft import LoraConfig, get_peft_model

    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module_of(name) == "llm" and not name.endswith("lm_head")
    ]
    roots = {"projector": _PROJECTORS, "tower": _TOWERS}
    names = {last for module, known in roots.items() if module in modules for last in known}
    whole = sorted({n for n, _ in model.named_modules() if n.split(".")[-1] in names})
    whole = [n for n in whole if not any(n.startswith(f"{outer}.") for outer in whole)]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or 2 * rank,
        target_modules=linear,
        modules_to_save=whole or None,
    )
    return get_peft_model(model, config)
