"""An initial projection from encoder features to the language model's embedding space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from tideo.encoders.dual import DualEncoder
from tideo.encoders.features import text_vectors
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.train.topa.soft_frames import pool_frames, token_weights
from tideo.types import Features, Tideo


@torch.no_grad()
def init_from_llm_(
    model: PrefixLM,
    tideos: Sequence[Tideo],
    features: Sequence[Features],
    encoder: DualEncoder,
    *,
    cache_dir: Path,
    num: int = 3000,
    l2: float = 1e-4,
) -> None:
    """Initialise the projection by ridge regression from text features to pooled LLM embeddings of the same captions.

    The samples are single captions and whole frames of `num` Tideos (soft_frames.py). The result is scaled to the
    median length of an embedding; row i of the temporal embedding becomes the LLM's embedding of the number i + 1.
    """
    table_VH = model.llm.get_input_embeddings().weight.float()
    pairs = list(zip(tideos, features, strict=True))[:num]
    captions = list(dict.fromkeys(c for t, _ in pairs for f in t.frames for c in f.captions))
    encoded = model.tokenizer([f" {c}" for c in captions], add_special_tokens=False)["input_ids"]
    ids_of = dict(zip(captions, encoded, strict=True))
    weights_V = token_weights(encoded, vocab_size=len(table_VH))
    vector_of = text_vectors(captions, encoder, cache_dir=cache_dir)
    rows = [(torch.from_numpy(vector_of(c)), ids_of[c]) for c in captions[: 5 * num]]
    for tideo, feature in pairs:
        for frame, value in zip(tideo.frames, feature.values_TD, strict=False):
            rows.append((torch.from_numpy(value), [i for c in frame.captions for i in ids_of[c]]))
    targets_NH = pool_frames(table_VH, [ids for _, ids in rows], weights_V=weights_V)
    inputs = torch.stack([r[0] for r in rows])
    weight_HD = ridge_projection(inputs, targets_NH=targets_NH, l2=l2)
    target_length = table_VH.norm(dim=1).median()
    length = (inputs @ weight_HD.T).norm(dim=1).median()
    model.init_visual_proj_(weight_HD * (target_length / length))
    numbers = model.tokenizer(
        [f"{i + 1}" for i in range(model.prefix_config.max_frames)], add_special_tokens=False
    )["input_ids"]
    model.temporal_emb.weight.copy_(torch.stack([table_VH[ids].mean(0) for ids in numbers]))


def ridge_projection(features_ND: torch.Tensor, *, targets_NH: torch.Tensor, l2: float) -> torch.Tensor:
    """The weight [H, D] that maps features to targets with the least squared error plus l2 * N * |weight|^2."""
    x, y = features_ND.double(), targets_NH.double()
    gram_DD = x.T @ x + l2 * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return torch.linalg.solve(gram_DD, x.T @ y).T.to(targets_NH.dtype).contiguous()
