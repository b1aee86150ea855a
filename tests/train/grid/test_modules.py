"""Which modules learn, with and without LoRA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grid_training import (
    config_for,
)
from tideo.train.grid.modules import module_of, train_only, with_lora
from tideo.train.grid.stage import freeze
from tiny_vlms import FAMILIES, made


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_modules_do_not_learn(family: str) -> None:
    model, _ = made(family)
    train_only(model, ["projector", "llm"])
    learning = {module_of(n) for n, p in model.named_parameters() if p.requires_grad}
    frozen = {module_of(n) for n, p in model.named_parameters() if not p.requires_grad}
    assert learning == {"projector", "llm"}
    assert frozen == {"tower"}


def test_lora_learns_in_the_language_model_and_the_whole_projector() -> None:
    model, _ = made("llava")
    train_only(model, ["projector", "llm"])
    lora = with_lora(model, rank=4, alpha=0, modules=["projector", "llm"])
    learning = [n for n, p in lora.named_parameters() if p.requires_grad]
    assert all("lora_" in n or "multi_modal_projector" in n for n in learning)
    assert any("multi_modal_projector.modules_to_save" in n for n in learning)
    assert not any("vision_tower" in n for n in learning)


def test_what_learns_beside_lora_is_in_float32(tmp_path: Path) -> None:
    config = config_for(tmp_path, lora_rank=4)
    model, _ = made("llava")
    kinds = {(p.requires_grad, p.dtype) for p in freeze(model.bfloat16(), config).parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
