"""Features of a frozen vision tower: it runs once for each image, and its output on disk replaces the pixels.

Shapes: B images, P crops of an image (1 for LLaVA-1.5), N tokens of a crop with its class token, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tideo.console import tracked
from tideo.models.grid.families import family_of
from tideo.store.features import FeatureStore
from tideo.store.files import key_of
from tideo.train.grid.conversations import Conversation, Pictures, adapted
from tideo.train.workers import loader_arguments
from tideo.types import UserError

_IMAGES_PER_SHARD = 256


class FeatureTower(nn.Module):
    """Replaces a tower whose output is known: its input is that output, [B·P, 1, N, D], instead of pixels."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        hidden = pixel_values[:, 0]
        # LLaVA reads only the layer that its configuration names.
        return BaseModelOutputWithPooling(last_hidden_state=hidden, hidden_states={self.layer: hidden})


class PatchFeatures:
    """The tower's output for each image key: [1, P, 1, N, D] with crops, [1, 1, N, D] without."""

    def __init__(self, store: FeatureStore, *, shape: tuple[int, ...]) -> None:
        self.store, self.shape = store, shape

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.store[key].astype(np.float32)).reshape(-1, *self.shape)


def tower_of(model: Any) -> tuple[nn.Module, int]:
    """The vision tower, and the number of the layer that the model reads. Raises UserError for other than LLaVA."""
    inner = getattr(model, "model", model)
    layer = getattr(model.config, "vision_feature_layer", None)
    if not family_of(model.config).keeps_features or not isinstance(layer, int):
        raise UserError(
            f"{type(model).__name__}: features can be kept for LLaVA and LLaVA-NeXT with a single "
            "vision_feature_layer; for this model set keep_features=false"
        )
    return inner.vision_tower, layer


def use_features(model: Any) -> nn.Module:
    """Replace the tower by a `FeatureTower`; returns the tower, for `restore_tower`."""
    tower, layer = tower_of(model)
    model.model.vision_tower = FeatureTower(layer)
    return tower


def restore_tower(model: Any, tower: nn.Module) -> None:
    """Undo `use_features`."""
    model.model.vision_tower = tower


class _Images(Dataset[tuple[Conversation, "torch.Tensor | str"]]):
    """The pixels of each conversation as its file gives it, or why they cannot be read."""

    def __init__(
        self, conversations: Sequence[Conversation], pixels: Callable[[Pictures], torch.Tensor]
    ) -> None:
        self.conversations, self.pixels = conversations, pixels

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> tuple[Conversation, torch.Tensor | str]:
        conversation = self.conversations[index]
        try:
            return adapted(conversation, self.pixels)
        except UserError as error:
            return conversation, str(error)


@torch.inference_mode()
def patch_features(
    model: Any,
    conversations: Sequence[Conversation],
    *,
    pixels: Callable[[Pictures], torch.Tensor],
    blank: torch.Tensor,
    tower_key: str,
    cache_dir: str | Path,
    batch: int = 16,
    workers: int = 0,
) -> tuple[PatchFeatures, dict[str, Conversation | str]]:
    """Run the tower on each distinct image that is not in the store, and write shard by shard.

    `pixels` returns the processor's output for one conversation's pictures, `blank` is that of one black image, and
    `tower_key` hashes tower and processor. Also returns, by the key of its pictures, each conversation that differs
    from what was expected: as its file gives it, or why it cannot be read.
    """
    tower, layer = tower_of(model)
    crops = blank.shape[1] if blank.ndim == 5 else None
    probe = tower(blank.flatten(0, blank.ndim - 4).to(tower.device, tower.dtype), output_hidden_states=True)
    num_tokens, dim = probe.hidden_states[layer].shape[1:]
    about = {"tower": tower_key, "layer": layer, "tokens": num_tokens, "crops": crops}
    store = FeatureStore(Path(cache_dir) / key_of(about), dim=dim, about=about)
    missing = list({c.pictures.key: c for c in conversations if c.pictures.key not in store}.values())
    loader = DataLoader(
        _Images(missing, pixels), batch_size=batch, collate_fn=list, **loader_arguments(workers)
    )
    changed: dict[str, Conversation | str] = {}
    rows: dict[str, np.ndarray] = {}
    for number, loaded in enumerate(tracked(loader, "vision tower", total=len(loader))):
        keys, inputs = [], []
        for before, (conversation, values) in zip(missing[number * batch :], loaded, strict=False):
            key = before.pictures.key
            if isinstance(values, str):
                changed[key] = values
                continue
            if conversation.pictures.key != key:
                changed[key] = conversation
            keys.append(conversation.pictures.key)
            inputs.append(values)
        if inputs:
            flat = torch.cat([i.flatten(0, i.ndim - 4) for i in inputs]).to(tower.device, tower.dtype)
            hidden = tower(flat, output_hidden_states=True).hidden_states[layer].float().cpu()
            sizes = [i.shape[:-3].numel() for i in inputs]
            parts = zip(keys, hidden.split(sizes), strict=True)
            rows |= {key: part.flatten(0, 1).numpy() for key, part in parts if key not in store}
        if len(rows) >= _IMAGES_PER_SHARD or number == len(loader) - 1:
            store.write(rows)
            rows = {}
    shape = (1, num_tokens, dim) if crops is None else (crops, 1, num_tokens, dim)
    return PatchFeatures(store, shape=shape), changed
