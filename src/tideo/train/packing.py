"""Packed sequences: several questions about one context share a sequence.

Each question attends to the context and to itself only, and its positions restart after the context, so one pass over
the context trains all its questions. Shapes: B sequences, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Rows of different lengths as one tensor [B, L], with `value` on the right."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def block_mask(block_BL: torch.Tensor) -> torch.Tensor:
    """Which tokens attend to which, bool [B, 1, L, L]: to earlier ones of the context (block 0) and of their own block.

    Padding has block -1.
    """
    length = block_BL.shape[1]
    visible_BLL = (block_BL[:, :, None] == block_BL[:, None, :]) | (block_BL[:, None, :] == 0)
    return (visible_BLL & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
