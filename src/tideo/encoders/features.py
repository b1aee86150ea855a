"""A Tideo and a Video both become Features: one unit vector a frame, in the space of one dual encoder.

textual frame:  normalise(mean over its captions of normalise(text vector))      (TOPA, arXiv 2405.13911)
video frame:    normalise(image vector)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from tideo.encoders.dual import DualEncoder
from tideo.encoders.memory import DTYPES, Memory
from tideo.store.features import FeatureStore
from tideo.store.files import key_of
from tideo.types import Features, Frames, Modality, TextFrame, Tideo, UserError

Item = TypeVar("Item")

# Captions encoded between two writes of the cache: the most that a killed run loses.
CAPTIONS_PER_SHARD = 32768


def frame_features(frames: Frames, encoder: DualEncoder) -> Features:
    """Frames [T, H, W, 3] → "image" Features [T, D] at the frames' own times."""
    (features,) = frames_features([frames], encoder)
    return features


def frames_features(many: Sequence[Frames], encoder: DualEncoder) -> list[Features]:
    """As `frame_features` of each; frames of several videos share the encoder's batches."""
    values_ND = encoder.encode_images([rgb_HWC for frames in many for rgb_HWC in frames.rgb_THWC])
    parts = np.split(values_ND, np.cumsum([len(frames) for frames in many])[:-1]) if many else []
    return [
        Features(
            values_TD=values_TD,
            pts_s_T=frames.pts_s_T,
            modality="image",
            encoder=encoder.id,
            places_T=frames.places_T,
        )
        for frames, values_TD in zip(many, parts, strict=True)
    ]


def texts_features(texts: Sequence[str], encoder: DualEncoder) -> list[Features]:
    """Each text as "text" Features [1, D]."""
    return [
        Features(values_TD=value_D[None], pts_s_T=None, modality="text", encoder=encoder.id)
        for value_D in encoder.encode_text(texts)
    ]


def tideo_features(
    tideos: Sequence[Tideo],
    encoder: DualEncoder,
    *,
    num_frames: int = 10,
    cache_dir: str | Path | None = None,
) -> Iterator[Features]:
    """Tideos → "text" Features [T, D], T at most `num_frames`, in the order of `tideos`.

    Each distinct caption is encoded once, before the first result; with `cache_dir`, once for all runs, stored as
    float16. A longer Tideo keeps the frames (j · len) // num_frames; a shorter one is not padded, as each model pads
    in its own way. Raises UserError for a Tideo without frames or a frame without a caption.
    """
    if num_frames < 1:
        raise UserError(f"num_frames must be at least 1, not {num_frames}")
    for tideo in tideos:
        if lacks_captions(tideo):
            raise UserError(
                f"tideo {tideo.id}: every Tideo needs a frame, and every frame a caption; remove or repair it"
            )
    kept = [sampled(tideo.frames, num_frames) for tideo in tideos]
    captions = [caption for frames in kept for frame in frames for caption in frame.captions]
    vector_of = text_vectors(captions, encoder, cache_dir=cache_dir)

    def features_of(frames: Sequence[TextFrame]) -> Features:
        rows = [np.mean([vector_of(caption) for caption in frame.captions], axis=0) for frame in frames]
        values_TD = unit_rows(np.stack(rows))
        return Features(values_TD=values_TD, pts_s_T=None, modality="text", encoder=encoder.id)

    return map(features_of, kept)


def caption_memory(
    tideos: Sequence[Tideo],
    encoder: DualEncoder,
    *,
    max_captions: int = 1_000_000,
    dtype: str = "float16",
    cache_dir: str | Path | None = None,
) -> Memory:
    """The memory that image features are projected onto: the vectors of the Tideos' distinct captions.

    Of more than `max_captions` (1,000,000 in TOPA's code), evenly spaced ones are kept. TOPA keeps the first, but a
    corpus is often ordered by its sources. `dtype` is a name in memory.DTYPES.
    """
    distinct = list(dict.fromkeys(c for tideo in tideos for frame in tideo.frames for c in frame.captions))
    captions = sampled(distinct, max_captions)
    vector_of = text_vectors(captions, encoder, cache_dir=cache_dir)
    values_MD = torch.empty(len(captions), encoder.dim, dtype=DTYPES[dtype])
    for row, caption in enumerate(captions):
        values_MD[row] = torch.from_numpy(vector_of(caption))
    return Memory(values_MD=values_MD, encoder=encoder.id)


def text_vectors(
    texts: Sequence[str], encoder: DualEncoder, *, cache_dir: str | Path | None = None
) -> Callable[[str], np.ndarray]:
    """Encode each distinct text once; returns a function from a text to its unit vector, float32 [D].

    The cache has a directory for each encoder (its weights, tokenizer, preprocessing and dtype) and a key for each
    text. It grows a shard at a time, so a killed run continues.
    """
    distinct = list(dict.fromkeys(texts))
    if cache_dir is None:
        row_of = {text: row for row, text in enumerate(distinct)}
        values_ND = encoder.encode_text(distinct)
        return lambda text: values_ND[row_of[text]]
    store = text_store(cache_dir, encoder)
    missing = [text for text in distinct if key_of(text) not in store]
    for start in range(0, len(missing), CAPTIONS_PER_SHARD):
        shard = missing[start : start + CAPTIONS_PER_SHARD]
        store.write(dict(zip(map(key_of, shard), encoder.encode_text(shard)[:, None], strict=True)))
    return lambda text: unit_rows(store[key_of(text)].astype(np.float32))[0]


def text_store(cache_dir: str | Path, encoder: DualEncoder) -> FeatureStore:
    """The cache of `text_vectors` for one encoder."""
    dtype = getattr(encoder, "dtype", "float32")  # which an encoder of another package need not have
    about = {"encoder": encoder.id, "dtype": dtype, "modality": "text"}
    return FeatureStore(Path(cache_dir) / f"text-{encoder.id}-{dtype}", dim=encoder.dim, about=about)


def open_features(directory: str | Path, encoder: DualEncoder, *, modality: Modality) -> FeatureStore:
    """The store of one encoder's Features in `directory`, which is made if it does not exist.

    Raises UserError if the directory holds features of another encoder or modality.
    """
    return FeatureStore(directory, dim=encoder.dim, about={"encoder": encoder.id, "modality": modality})


def read_features(store: FeatureStore, item_id: str) -> Features:
    """The Features of one id, as float32 unit rows again after float16. Raises UserError for an unknown id."""
    if item_id not in store:
        raise UserError(f"{store.directory} holds no features of {item_id!r}: encode it first")
    return Features(
        values_TD=unit_rows(store[item_id].astype(np.float32)),
        pts_s_T=store.pts_s(item_id),
        modality=store.about["modality"],
        encoder=store.about["encoder"],
    )


def lacks_captions(tideo: Tideo) -> bool:
    """Whether the Tideo has no frame, or a frame without a caption."""
    return not tideo.frames or not all(frame.captions for frame in tideo.frames)


def sampled(items: Sequence[Item], num: int) -> Sequence[Item]:
    """At most `num` of the items: those at (j · len) // num, TOPA's rule (dataloader/textvid.py of its code)."""
    return items if len(items) <= num else [items[j * len(items) // num] for j in range(num)]


def unit_rows(values_ND: np.ndarray) -> np.ndarray:
    return values_ND / np.maximum(np.linalg.norm(values_ND, axis=-1, keepdims=True), 1e-12)
