"""An initial projection from encoder features to the language model's embedding space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from tideo.encoders.dual import DualEncoder
from tideo.encoders.features import text_vectors
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.train.topa.soft_frames import pool_frames, token_weights
from tideo.types import Features, Tideo

BLOCK = 4096  # rows of the regression at a time


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
    tideos = tideos[:num]
    captions = list(dict.fromkeys(c for t in tideos for f in t.frames for c in f.captions))
    encoded = model.tokenizer([f" {c}" for c in captions], add_special_tokens=False)["input_ids"]
    ids_of = dict(zip(captions, encoded, strict=True))
    weights_V = token_weights(encoded, vocab_size=len(table_VH)).to(table_VH.device)
    vector_of = text_vectors(captions, encoder, cache_dir=cache_dir)

    def rows() -> Iterator[tuple[np.ndarray, list[int]]]:
        yield from ((vector_of(c), ids_of[c]) for c in captions[: 5 * num])
        for tideo, feature in zip(tideos, features, strict=False):
            for frame, value in zip(tideo.frames, feature.values_TD, strict=False):
                yield value, [i for c in frame.captions for i in ids_of[c]]

    def blocks() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for block in _blocks(rows()):
            inputs_BD = torch.from_numpy(np.stack([value for value, _ in block])).to(table_VH.device)
            yield inputs_BD, pool_frames(table_VH, [ids for _, ids in block], weights_V=weights_V)

    weight_HD = ridge_projection(blocks(), l2=l2)
    lengths = [(inputs_BD @ weight_HD.T).norm(dim=1) for inputs_BD, _ in blocks()]
    target_length = table_VH.norm(dim=1).median()
    model.init_visual_proj_(weight_HD * (target_length / torch.cat(lengths).median()))
    numbers = model.tokenizer(
        [f"{i + 1}" for i in range(model.prefix_config.max_frames)], add_special_tokens=False
    )["input_ids"]
    model.temporal_emb.weight.copy_(torch.stack([table_VH[ids].mean(0) for ids in numbers]))


def ridge_projection(blocks: Iterable[tuple[torch.Tensor, torch.Tensor]], *, l2: float) -> torch.Tensor:
    """The weight [H, D] that maps features to targets with the least squared error plus l2 * N * |weight|^2.

    `blocks` are (features [B, D], targets [B, H]) of the N samples.
    """
    gram_DD = cross_DH = torch.zeros(())
    num, dtype = 0, torch.float32
    for features_BD, targets_BH in blocks:
        x, y = features_BD.double(), targets_BH.double()
        gram_DD, cross_DH = gram_DD.to(x) + x.T @ x, cross_DH.to(x) + x.T @ y
        num, dtype = num + len(x), targets_BH.dtype
    gram_DD = gram_DD + l2 * num * torch.eye(len(gram_DD)).to(gram_DD)
    return torch.linalg.solve(gram_DD, cross_DH).T.to(dtype).contiguous()


def _blocks(rows: Iterator[tuple[np.ndarray, list[int]]]) -> Iterator[list[tuple[np.ndarray, list[int]]]]:
    block = []
    for row in rows:
        block.append(row)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block
