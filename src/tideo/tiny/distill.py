"""A LLaVA learns to see as a text-only model does: each patch of a cell, the vector of the cell's frame.

A model that `tideo prealign` wrote turns a frame into one vector that its language model can read. Put into a LLaVA,
that language model is shown a grid instead; so tower and projector learn to give every patch of a cell the vector of
its frame (mean squared error). No language model runs, and no question is asked. Shapes: B grids, K cells, N patches, H
width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from tideo.encoders.features import frame_features
from tideo.encoders.memory import project
from tideo.models.topa.model import ZeroShot
from tideo.train.grid.conversations import Pictures
from tideo.train.grid.patch_features import tower_of
from tideo.types import Frames, UserError


class Imitation(nn.Module):
    """The tower and the projector of a LLaVA with one image of rows × cols cells; `loss` of patches against vectors."""

    def __init__(self, model: Any, *, rows: int, cols: int) -> None:
        super().__init__()
        self.tower, self.layer = tower_of(model)
        self.projector = model.model.multi_modal_projector
        side = model.config.vision_config.image_size // model.config.vision_config.patch_size
        self.register_buffer("cell_N", self.cells(side, rows=rows, cols=cols), persistent=False)

    @staticmethod
    def cells(side: int, *, rows: int, cols: int) -> Tensor:
        """The cell of each of side × side patches; a patch on an edge belongs to the cell that it begins in."""
        place = torch.arange(side)
        row_S, col_S = place * rows // side, place * cols // side
        return (row_S[:, None] * cols + col_S[None, :]).flatten()

    def forward(self, pixel_values: Tensor, vectors_BKH: Tensor) -> dict[str, Tensor]:
        hidden = self.tower(pixel_values, output_hidden_states=True).hidden_states[self.layer]
        said_BNH = self.projector(hidden[:, 1:])  # without the class token, as LLaVA reads it
        return {"loss": F.mse_loss(said_BNH.float(), vectors_BKH[:, self.cell_N])}


class ImitationExamples(Dataset[dict[str, Tensor]]):
    """Example `index`: a grid's pixels and its frames' vectors, each computed once and kept in float16."""

    def __init__(
        self, watched: Sequence[Watched], *, teacher: ZeroShot, pixels: Any, num: int, seed: int = 0
    ) -> None:
        if not watched:
            raise UserError("there is nothing to imitate on: expected grids with their frames")
        self.watched, self.num = watched, num
        order = np.random.default_rng(seed)
        passes = -(-num // len(watched))
        self.order = np.concatenate([order.permutation(len(watched)) for _ in range(passes)])
        self._example = lru_cache(maxsize=None)(
            lambda i: _example(watched[i], teacher=teacher, pixels=pixels)
        )

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value.float() for name, value in self._example(int(self.order[index])).items()}


def _example(watched: Watched, *, teacher: ZeroShot, pixels: Any) -> dict[str, Tensor]:
    return {
        "pixel_values": pixels(watched.pictures)["pixel_values"][0].half(),
        "vectors_BKH": frame_vectors(teacher, watched.frames()).half(),
    }


@torch.no_grad()
def frame_vectors(teacher: ZeroShot, frames: Frames) -> Tensor:
    """What stands for each frame in the sequence of a text-only model, its temporal embeddings averaged: [K, H]."""
    seen = project(
        frame_features(frames, teacher.encoder), teacher.memory, temperature=teacher.settings.temperature
    )
    values_KD = torch.from_numpy(seen.values_TD)
    return teacher.lm.visual_proj(values_KD) + teacher.lm.temporal_emb.weight.mean(0)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A grid, and the frames of its cells."""

    pictures: Pictures
    frames: Callable[[], Frames]
