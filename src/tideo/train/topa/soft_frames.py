"""A frame of a story pressed into one vector, as a video's frames will come: what a plain start takes too long to read.

A large language model reads soft prompts that are means of its own embeddings. One of two million parameters has to
learn it, so a share of its stories comes this way; no CLIP feature and no picture takes part.
Shapes: V tokens of the vocabulary, H hidden width, N frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F

SMOOTH = 1e-3  # of the inverse frequency, as published


def token_weights(texts_ids: Iterable[Sequence[int]], *, vocab_size: int) -> torch.Tensor:
    """Smooth inverse frequency [V] (Arora et al., ICLR 2017): what tells a frame from others is a word or two."""
    counts_V = torch.bincount(torch.tensor([i for ids in texts_ids for i in ids]), minlength=vocab_size)
    return SMOOTH / (SMOOTH + counts_V / counts_V.sum())


def press(
    table_VH: torch.Tensor, frames: Sequence[Sequence[int]], *, weights_V: torch.Tensor
) -> torch.Tensor:
    """Each frame's tokens as the weighted mean of their embeddings, scaled to the usual length of one [N, H]."""
    ids = torch.tensor([i for frame in frames for i in frame])
    starts = torch.tensor([0] + [len(frame) for frame in frames[:-1]]).cumsum(0)
    sums_NH = F.embedding_bag(ids, table_VH, starts, mode="sum", per_sample_weights=weights_V[ids])
    usual = table_VH.detach().norm(dim=1).median()
    return F.normalize(sums_NH, dim=1) * usual
