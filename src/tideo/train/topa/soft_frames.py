"""Soft frame tokens: the text of a frame pooled into one vector, which a language model reads like a video's frame.

The vector is a weighted mean of the model's own token embeddings; no CLIP feature and no picture is involved. It is
the target that initialises the projection (init_projection.py). A model of two million parameters cannot read such
vectors from the start, so a share of its training texts has them too (tiny/lm_corpus.py).
Shapes: V tokens of the vocabulary, H hidden width, N frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F

SMOOTH = 1e-3  # smoothing of the inverse frequency, as published


def token_weights(texts_ids: Iterable[Sequence[int]], *, vocab_size: int) -> torch.Tensor:
    """Smooth inverse frequency [V] (Arora et al., ICLR 2017), since frames differ in only one or two words."""
    counts_V = torch.bincount(torch.tensor([i for ids in texts_ids for i in ids]), minlength=vocab_size)
    return SMOOTH / (SMOOTH + counts_V / counts_V.sum())


def pool_frames(
    table_VH: torch.Tensor, frames: Sequence[Sequence[int]], *, weights_V: torch.Tensor
) -> torch.Tensor:
    """Each frame's tokens as the weighted mean of their embeddings, scaled to their median length: [N, H]."""
    ids = torch.tensor([i for frame in frames for i in frame], device=table_VH.device)
    starts = torch.tensor([0] + [len(frame) for frame in frames[:-1]], device=table_VH.device).cumsum(0)
    sums_NH = F.embedding_bag(ids, table_VH, starts, mode="sum", per_sample_weights=weights_V[ids])
    length = table_VH.detach().norm(dim=1).median()
    return F.normalize(sums_NH, dim=1) * length
