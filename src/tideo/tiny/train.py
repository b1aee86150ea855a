"""`tideo train RECIPE`: the type of a recipe → the function that runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tideo.tiny.clip import ClipRecipe, pretrain_clip
from tideo.tiny.distill import DistillConfig, distill
from tideo.tiny.lm import LMConfig, pretrain_lm
from tideo.tiny.looks import LooksConfig, train_looks
from tideo.types import UserError

TRAININGS: dict[type, Callable[..., Path]] = {
    ClipRecipe: pretrain_clip,
    LMConfig: pretrain_lm,
    DistillConfig: distill,
    LooksConfig: train_looks,
}


def train(config: Any, *, out: str | Path, resume: bool = False) -> Path:
    """Train a tiny model and return its folder. Raises UserError if the recipe is for another command."""
    if type(config) not in TRAININGS:
        raise UserError(
            f"this recipe returns a {type(config).__name__}, which is for another command, such as prealign"
        )
    return TRAININGS[type(config)](config, out=out, resume=resume)
