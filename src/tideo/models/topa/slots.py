"""The temporal embeddings of a video's frames: by their number, or by their time.

Shapes: B batch, T frames, S positions of the sequence, H hidden width.
"""

from __future__ import annotations

import torch
from torch import nn


def even_places(num_frames: int) -> list[float]:
    """Where in the segment each of so many even frames lies, from 0 to 1."""
    return [(i + 0.5) / num_frames for i in range(num_frames)]


def temporal_vectors(
    table: nn.Embedding,
    num_frames_B: torch.Tensor,
    *,
    pad_frames: str,
    num_frames: int,
    places_BT: torch.Tensor | None = None,
) -> torch.Tensor:
    """[B, S, H] of rows of at most `num_frames` frames; `pad_frames` is as in PrefixLMConfig.

    `places_BT`: where in the segment the frames lie, from 0 to 1; without them they are even.
    """
    limit = table.num_embeddings
    slot_T = torch.arange(num_frames, device=num_frames_B.device)
    if pad_frames == "zeros":
        return table(torch.arange(limit, device=num_frames_B.device).expand(len(num_frames_B), -1))
    if pad_frames == "spread":  # frame i of n takes the middle of the i-th of n equal parts of the slots
        return table(((2 * slot_T + 1) * limit // (2 * num_frames_B[:, None])).clamp(max=limit - 1))
    if places_BT is None:
        places_BT = (slot_T + 0.5) / num_frames_B[:, None]
    return _between(table, places_BT.to(num_frames_B.device))


def _between(table: nn.Embedding, places_BT: torch.Tensor) -> torch.Tensor:
    """The embeddings at these places by linear interpolation; slot i of S is at the middle of the i-th equal part."""
    last = table.num_embeddings - 1
    slots_BT = (places_BT * (last + 1) - 0.5).clamp(0, last)
    below_BT = slots_BT.long()
    share_BT1 = (slots_BT - below_BT)[..., None].to(table.weight.dtype)
    return torch.lerp(table(below_BT), table((below_BT + 1).clamp(max=last)), share_BT1)
