"""The memory of the cross-modal projection, and training texts that are projected onto it.

At inference image features become softmax-weighted means of the memory's rows (encoders/memory.py). These are smoother
than the text features that the language model is trained on. `projected_texts` makes such means for training: text
features with noise, projected onto the rows of other Tideos. TOPA does not have this step.
Shapes: T frames, M rows of the memory, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

import numpy as np
import torch

from tideo.encoders.dual import DualEncoder
from tideo.encoders.features import caption_memory, sampled, unit_rows
from tideo.encoders.memory import Memory
from tideo.types import Features, Tideo


def make_memory(
    kind: Literal["captions", "frames"],
    *,
    num_rows: int,
    tideos: Sequence[Tideo],
    features: Sequence[Features],
    encoder: DualEncoder,
) -> Memory:
    """At most `num_rows` evenly spaced vectors: of the captions (as published) or of the textual frames."""
    if kind == "frames":
        rows = sampled(list(chain.from_iterable(f.values_TD for f in features)), num_rows)
        return Memory(values_MD=torch.from_numpy(np.stack(rows)).half(), encoder=encoder.id)
    return caption_memory(tideos, encoder, max_captions=num_rows)


def projected_texts(
    features: Sequence[Features], *, num_rows: int, temperature: float, noise_std: float, seed: int
) -> list[Features]:
    """Each Tideo's features with noise, projected onto the memory's rows of all other Tideos."""
    owner_M = np.concatenate([np.full(len(f), i) for i, f in enumerate(features)])
    kept_M = np.asarray(sampled(range(len(owner_M)), num_rows))
    owner_M = torch.from_numpy(owner_M[kept_M])
    memory_MD = torch.from_numpy(np.concatenate([f.values_TD for f in features])[kept_M])
    generator = np.random.default_rng(seed)

    def projected(index: int, item: Features) -> Features:
        noise_TD = generator.normal(0.0, noise_std, item.values_TD.shape).astype(np.float32)
        query_TD = torch.from_numpy(unit_rows(item.values_TD + noise_TD))
        scores_TM = (temperature * query_TD) @ memory_MD.T
        scores_TM.masked_fill_(owner_M == index, -torch.inf)
        return replace(item, values_TD=unit_rows((scores_TM.softmax(-1) @ memory_MD).numpy()))

    return [projected(index, item) for index, item in enumerate(features)]
