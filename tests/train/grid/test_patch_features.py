"""The frozen tower runs once for each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from grid_training import (
    SIDE,
    batch_of,
    conversation,
)
from tideo.train.grid.conversations import Conversation
from tideo.train.grid.examples import Chat
from tideo.train.grid.patch_features import PatchFeatures, patch_features, restore_tower, use_features
from tideo.types import UserError
from tiny_vlms import made


def kept_features(model: Any, asked: list[Conversation], *, chat: Chat, cache_dir: Path) -> PatchFeatures:
    features, changed = patch_features(
        model, asked, pixels=lambda pictures: chat.pixels(pictures)["pixel_values"],
        blank=chat.black(1)["pixel_values"], tower_key="t", cache_dir=cache_dir,
    )  # fmt: skip
    assert not changed
    return features


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_kept_features_have_the_loss_of_pixels(family: str, tmp_path: Path) -> None:
    model, processor = made(family)
    asked = [conversation(0), conversation(1)]
    chat = Chat(processor, image_size=SIDE)
    runs = []
    hook = model.model.vision_tower.register_forward_hook(lambda *_: runs.append(1))
    features = kept_features(model, asked, chat=chat, cache_dir=tmp_path)
    num = len(runs)
    again = kept_features(model, asked, chat=chat, cache_dir=tmp_path)
    assert len(runs) == num + 1  # the one that asks for the shape
    hook.remove()
    with torch.no_grad():
        expected = model(**batch_of(processor, asked)).loss.item()
        tower = use_features(model)
        kept = model(**batch_of(processor, asked, features=again)).loss.item()
        restore_tower(model, tower)
        assert kept == pytest.approx(expected, abs=2e-3)
        assert model(**batch_of(processor, asked)).loss.item() == expected
    assert features.shape == again.shape


def test_only_llava_keeps_features(tmp_path: Path) -> None:
    model, processor = made("qwen2_vl")
    chat = Chat(processor, image_size=SIDE)
    with pytest.raises(UserError, match="keep_features=false"):
        kept_features(model, [conversation()], chat=chat, cache_dir=tmp_path)
