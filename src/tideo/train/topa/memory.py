"""The memory of the cross-modal projection, and training texts that are projected onto it.

At inference image features become softmax-weighted means of the memory's rows (encoders/memory.py). These are smoother
than the text features that the language model is trained on. `projected_texts` makes such means for training: text
features with noise, projected onto the rows of other Tideos. TOPA does not have this step.

All rows come from stores on disk and go to files a block at a time.
Shapes: T frames, M rows of the memory, D feature width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tideo.encoders.dual import DualEncoder
from tideo.encoders.features import sampled, unit_rows
from tideo.encoders.memory import BLOCK
from tideo.store.files import key_of
from tideo.train.topa.features import StoredFeatures, fill_store
from tideo.types import Tideo

CAPTIONS = 4096  # captions that a process encodes at a time
PROJECTED = 1024  # Tideos that a process projects at a time


def caption_rows(
    tideos: Sequence[Tideo], encoder: DualEncoder, *, num_rows: int, folder: Path
) -> StoredFeatures:
    """The vectors of at most `num_rows` evenly spaced distinct captions, in blocks, encoded by all processes together.

    TOPA keeps the first million of its captions; a corpus is often ordered by its sources.
    """
    distinct = list(dict.fromkeys(c for tideo in tideos for frame in tideo.frames for c in frame.captions))
    captions = sampled(distinct, num_rows)
    blocks = [captions[i : i + CAPTIONS] for i in range(0, len(captions), CAPTIONS)]
    keys = [key_of(list(block)) for block in blocks]
    store = fill_store(
        folder,
        dict(zip(keys, blocks, strict=True)),
        lambda shard: (encoder.encode_text(list(block)) for block in shard),
        dim=encoder.dim,
        about={"encoder": encoder.id, "modality": "text"},
        shard=1,
        what="encoding the memory's captions",
    )
    return StoredFeatures(store, keys)


def memory_rows(
    kind: Literal["captions", "frames"], features: StoredFeatures, *, num_rows: int
) -> tuple[int, Iterator[np.ndarray]]:
    """How many rows the memory has, and these rows, float32 [·, D], in blocks.

    `features` are those of `caption_rows`, or the Tideos' own, of whose frames at most `num_rows` evenly spaced ones
    are taken.
    """
    lengths = features.num_rows()
    num = sum(lengths) if kind == "captions" else min(sum(lengths), num_rows)
    return num, _rows(features, lengths, num)


def projected_texts(
    features: StoredFeatures,
    *,
    num_rows: int,
    temperature: float,
    noise_std: float,
    seed: int,
    folder: Path,
    device: torch.device | str = "cpu",
) -> StoredFeatures:
    """Each Tideo's features with noise, projected onto the memory's rows of all other Tideos, in a store in `folder`.

    The memory is on `device` in float32; all processes share the work.
    """
    lengths = features.num_rows()
    num = min(sum(lengths), num_rows)
    owner_M = torch.from_numpy(np.searchsorted(np.cumsum(lengths), _kept(lengths, num), side="right")).to(
        device
    )
    width = features.store.dim
    memory_MD = torch.empty(num, width, device=device)
    start = 0
    for block_BD in _rows(features, lengths, num):
        memory_MD[start : start + len(block_BD)] = torch.from_numpy(block_BD)
        start += len(block_BD)
    generator, drawn = np.random.default_rng(seed), 0

    def noise_of(index: int) -> np.ndarray:
        """Of one stream for all Tideos in their order, so that it does not depend on the number of processes."""
        nonlocal drawn
        for other in range(drawn, index):
            generator.normal(0.0, noise_std, (lengths[other], width))
        drawn = index + 1
        return generator.normal(0.0, noise_std, (lengths[index], width)).astype(np.float32)

    def projected(index: int) -> np.ndarray:
        query_TD = torch.from_numpy(unit_rows(features[index].values_TD + noise_of(index))).to(device)
        scores_TM = (temperature * query_TD) @ memory_MD.T
        scores_TM.masked_fill_(owner_M == index, -torch.inf)
        return unit_rows((scores_TM.softmax(-1) @ memory_MD).cpu().numpy())

    about = {
        "encoder": features.store.about["encoder"],
        "modality": "text",
        "num_rows": num_rows,
        "seed": seed,
    }
    about |= {"temperature": temperature, "noise_std": noise_std, "features": key_of(features.keys)}
    names = [str(index) for index in range(len(features))]
    store = fill_store(
        folder / f"projected-{key_of(about)[:16]}",
        dict(zip(names, range(len(features)), strict=True)),
        lambda shard: map(projected, shard),
        dim=width,
        about=about,
        shard=PROJECTED,
        what="projecting texts",
    )
    return StoredFeatures(store, names)


def _kept(lengths: Sequence[int], num: int) -> np.ndarray:
    """The numbers of `num` evenly spaced rows of all: TOPA's rule, as in `sampled`."""
    return np.arange(num, dtype=np.int64) * sum(lengths) // max(num, 1)


def _rows(features: StoredFeatures, lengths: Sequence[int], num: int) -> Iterator[np.ndarray]:
    """These rows, in blocks; each item is read once for a block."""
    ends = np.cumsum(lengths)
    kept = _kept(lengths, num)
    for start in range(0, num, BLOCK):
        block = kept[start : start + BLOCK]
        items = np.searchsorted(ends, block, side="right")
        first_of = {int(item): int(ends[item] - lengths[item]) for item in np.unique(items)}
        yield np.concatenate(
            [features[item].values_TD[block[items == item] - first] for item, first in first_of.items()]
        )
