"""`tideo train RECIPE`: which function trains what a recipe describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tideo.tiny.clip import ClipRecipe, pretrain_clip
from tideo.tiny.lm import LMConfig, pretrain_lm
from tideo.train.trainer import begin
from tideo.types import UserError

TRAININGS: dict[type, Callable[..., Path]] = {ClipRecipe: pretrain_clip, LMConfig: pretrain_lm}


def pretrain(config: Any, *, out: str | Path, resume: bool = False) -> Path:
    """Train a tiny model and return its folder. Raises UserError for a recipe of another command."""
    if type(config) not in TRAININGS:
        raise UserError(
            f"this recipe makes a {type(config).__name__}: it is for another command, as prealign"
        )
    begin(out, recipe=config, resume=resume, steps=["checkpoints"])
    return TRAININGS[type(config)](config, out=out, resume=resume)
