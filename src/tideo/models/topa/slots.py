"""Which slots the frames of a video take, and their temporal embeddings: by number or by time.

Shapes: B batch, T frames, S slots, D feature width, H hidden width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tideo.types import Features


def even_places(num_frames: int) -> list[float]:
    """Where in the segment each of so many even frames lies, from 0 to 1."""
    return [(i + 0.5) / num_frames for i in range(num_frames)]


def places_of(features: object, num_frames: int) -> torch.Tensor:
    """Where in the segment the frames of a video lie, float32 [T]; even if the features do not say it."""
    places_T = features.places_T if isinstance(features, Features) else None
    return torch.tensor(even_places(num_frames) if places_T is None else places_T, dtype=torch.float32)


def in_slots(
    video_BTD: torch.Tensor,
    num_frames_B: torch.Tensor,
    places_BT: torch.Tensor | None,
    *,
    table: nn.Embedding,
    pad_frames: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features [B, S, D] and temporal embeddings [B, S, H] of all slots, and how many of them each row uses.

    `pad_frames` as in PrefixLMConfig. `places_BT`: where in the segment the frames lie, from 0 to 1; by default even.
    """
    num_frames, limit = video_BTD.shape[1], table.num_embeddings
    slot_T = torch.arange(num_frames, device=video_BTD.device)
    if pad_frames == "zeros":
        video_BTD = video_BTD * (slot_T < num_frames_B[:, None])[..., None]
        slots_BS = torch.arange(limit, device=video_BTD.device).expand(len(video_BTD), -1)
        every_B = torch.full_like(num_frames_B, limit)
        return F.pad(video_BTD, (0, 0, 0, limit - num_frames)), table(slots_BS), every_B
    if pad_frames == "spread":  # frame i of n takes the middle of the i-th of n equal parts of the slots
        slots_BT = ((2 * slot_T + 1) * limit // (2 * num_frames_B[:, None])).clamp(max=limit - 1)
        return video_BTD, table(slots_BT), num_frames_B
    if places_BT is None:
        places_BT = (slot_T + 0.5) / num_frames_B[:, None]
    return video_BTD, _between(table, places_BT.to(video_BTD.device)), num_frames_B


def _between(table: nn.Embedding, places_BT: torch.Tensor) -> torch.Tensor:
    """The embeddings at these places by linear interpolation; slot i lies in the middle of the i-th equal part."""
    last = table.num_embeddings - 1
    slots_BT = (places_BT * (last + 1) - 0.5).clamp(0, last)
    below_BT = slots_BT.long()
    share_BT1 = (slots_BT - below_BT)[..., None].to(table.weight.dtype)
    return torch.lerp(table(below_BT), table((below_BT + 1).clamp(max=last)), share_BT1)
