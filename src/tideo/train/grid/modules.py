"""The three parts of an image-text model, and which of them learn: vision tower, projector, language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import nn

from tideo.types import UserError

Part = Literal["tower", "projector", "llm"]
PARTS: tuple[str, ...] = get_args(Part)
_TOWERS = ("vision_tower", "vision_model", "visual")
# Names of modules that bring the tower's output to the language model, in the families that transformers has.
_PROJECTORS = ("multi_modal_projector", "connector", "image_newline", "merger", "mlp1", "modality_projection")


def part_of(name: str) -> str:
    """The part that a parameter belongs to, by its name."""
    steps = name.split(".")
    if any(step in _PROJECTORS for step in steps):
        return "projector"
    return "tower" if any(step in _TOWERS for step in steps) else "llm"


def train_only(model: nn.Module, parts: Sequence[str]) -> None:
    """Freeze all other parts. Raises UserError where the model has none of a part's weights."""
    found = set()
    for name, parameter in model.named_parameters():
        part = part_of(name)
        found.add(part)
        parameter.requires_grad_(part in parts and parameter.is_floating_point())
    if missing := [part for part in parts if part not in found]:
        raise UserError(
            f"{type(model).__name__}: no {missing[0]} was found in it to train; leave it out of parts"
        )


def with_lora(model: Any, *, rank: int, alpha: int, parts: Sequence[str]) -> Any:
    """A PEFT model: LoRA on every linear layer of the language model; what else learns, learns whole."""
    from peft import LoraConfig, get_peft_model

    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and part_of(name) == "llm" and not name.endswith("lm_head")
    ]
    roots = {"projector": _PROJECTORS, "tower": _TOWERS}
    names = {last for part, known in roots.items() if part in parts for last in known}
    whole = sorted({n for n, _ in model.named_modules() if n.split(".")[-1] in names})
    whole = [n for n in whole if not any(n.startswith(f"{outer}.") for outer in whole)]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or 2 * rank,
        target_modules=linear,
        modules_to_save=whole or None,
    )
    return get_peft_model(model, config)
