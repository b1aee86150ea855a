"""The modules of an image-text model (vision tower, projector, language model) and the freeze policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import nn

from tideo.models.grid.families import FAMILIES, OTHER
from tideo.types import UserError

ModuleName = Literal["tower", "projector", "llm"]
MODULES: tuple[str, ...] = get_args(ModuleName)
_ROWS = (OTHER, *FAMILIES.values())
_TOWERS = {name for family in _ROWS for name in family.tower}
_PROJECTORS = {name for family in _ROWS for name in family.projector}


def module_of(parameter: str) -> str:
    """The module of a parameter, from the parameter's name."""
    path = parameter.split(".")
    if any(name in _PROJECTORS for name in path):
        return "projector"
    return "tower" if any(name in _TOWERS for name in path) else "llm"


def train_only(model: nn.Module, modules: Sequence[str]) -> None:
    """Freeze all other modules. Raises UserError if one of these has no weight in the model."""
    found = set()
    for name, parameter in model.named_parameters():
        module = module_of(name)
        found.add(module)
        parameter.requires_grad_(module in modules and parameter.is_floating_point())
    if missing := [module for module in modules if module not in found]:
        raise UserError(f"{type(model).__name__} has no {missing[0]} to train: leave it out of modules")


def with_lora(model: Any, *, rank: int, alpha: int, modules: Sequence[str]) -> Any:
    """A PEFT model: LoRA on every linear layer of the language model; the other modules learn all their weights."""
    from peft import LoraConfig, get_peft_model

    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module_of(name) == "llm" and not name.endswith("lm_head")
    ]
    roots = {"projector": _PROJECTORS, "tower": _TOWERS}
    names = {last for module, known in roots.items() if module in modules for last in known}
    found = {n: module for n, module in model.named_modules() if n.split(".")[-1] in names}
    whole = sorted(n for n in found if not any(n.startswith(f"{outer}.") for outer in found))
    # PEFT wraps no list of modules, such as Qwen3-VL's, but each of them.
    whole = [
        name
        for n in whole
        for name in (
            [f"{n}.{i}" for i in range(len(found[n]))] if isinstance(found[n], nn.ModuleList) else [n]
        )
    ]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or 2 * rank,
        target_modules=linear,
        modules_to_save=whole or None,
    )
    return get_peft_model(model, config)
