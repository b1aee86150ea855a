"""A frozen vision tower runs once for each image: its output is kept on disk and takes the pixels' place.

Shapes: B images, P crops of an image (1 for LLaVA-1.5), N tokens of a crop with its class token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tideo.store.features import FeatureStore
from tideo.store.files import key_of
from tideo.train.grid.conversations import Conversation
from tideo.types import UserError

_IMAGES_PER_SHARD = 256


class KeptTower(nn.Module):
    """Stands for a tower whose output is given: [B·P, 1, N, D] in the place of pixels."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        hidden = pixel_values[:, 0]
        # LLaVA reads the one layer that its configuration names.
        return BaseModelOutputWithPooling(last_hidden_state=hidden, hidden_states={self.layer: hidden})


class PatchFeatures:
    """The tower's output for each image key: [1, P, 1, N, D] with crops, [1, 1, N, D] without."""

    def __init__(self, store: FeatureStore, *, shape: tuple[int, ...]) -> None:
        self.store, self.shape = store, shape

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.store[key].astype(np.float32)).reshape(-1, *self.shape)


def tower_of(model: Any) -> tuple[nn.Module, int]:
    """The vision tower and the layer that is read of it. Raises UserError where the model is no LLaVA."""
    inner = getattr(model, "model", model)
    layer = getattr(model.config, "vision_feature_layer", None)
    if not hasattr(inner, "vision_tower") or not isinstance(layer, int):
        raise UserError(
            f"{type(model).__name__}: the tower's output can be kept for LLaVA and LLaVA-NeXT that read one layer "
            "only; set keep_features=false"
        )
    return inner.vision_tower, layer


def keep_tower(model: Any) -> nn.Module:
    """Put `KeptTower` in the tower's place; returns the tower, to be put back with `put_back`."""
    tower, layer = tower_of(model)
    model.model.vision_tower = KeptTower(layer)
    return tower


def put_back(model: Any, tower: nn.Module) -> None:
    model.model.vision_tower = tower


@torch.inference_mode()
def patch_features(
    model: Any,
    conversations: Sequence[Conversation],
    *,
    pixels: Any,
    tower_key: str,
    cache_dir: str | Path,
    batch: int = 16,
) -> PatchFeatures:
    """Run the tower over each distinct image that is not there yet, a shard at a time.

    `pixels` makes the processor's input of one conversation's pictures; `tower_key` hashes tower and processor.
    """
    tower, layer = tower_of(model)
    pictures = {c.pictures.key: c.pictures for c in conversations}
    first = pixels(next(iter(pictures.values())))["pixel_values"]
    crops = first.shape[1] if first.ndim == 5 else None
    probe = tower(first.flatten(0, first.ndim - 4).to(tower.device, tower.dtype), output_hidden_states=True)
    num_tokens, dim = probe.hidden_states[layer].shape[1:]
    about = {"tower": tower_key, "layer": layer, "tokens": num_tokens, "crops": crops}
    store = FeatureStore(Path(cache_dir) / key_of(about), dim=dim, about=about)
    missing = [key for key in pictures if key not in store]
    shards = [missing[i : i + _IMAGES_PER_SHARD] for i in range(0, len(missing), _IMAGES_PER_SHARD)]
    for shard in track(shards, "vision tower", console=Console(stderr=True), disable=not shards):
        rows: dict[str, np.ndarray] = {}
        for start in range(0, len(shard), batch):
            keys = shard[start : start + batch]
            given = [pixels(pictures[key])["pixel_values"] for key in keys]
            flat = torch.cat([g.flatten(0, g.ndim - 4) for g in given]).to(tower.device, tower.dtype)
            hidden = tower(flat, output_hidden_states=True).hidden_states[layer].float().cpu()
            sizes = [g.shape[:-3].numel() for g in given]
            rows |= {
                key: part.flatten(0, 1).numpy() for key, part in zip(keys, hidden.split(sizes), strict=True)
            }
        store.write(rows)
    shape = (1, num_tokens, dim) if crops is None else (crops, 1, num_tokens, dim)
    return PatchFeatures(store, shape=shape)
