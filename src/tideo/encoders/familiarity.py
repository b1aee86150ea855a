"""How near the frames of a video are to the memory that its features are projected onto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tideo.encoders.memory import Memory, project
from tideo.types import Features, UserError


def familiarity(features: Features, memory: Memory, *, temperature: float = 100.0) -> np.ndarray:
    """The cosine of each frame with its projection, float32 [T]: how much of the frame the memory can say.

    The nearest caption alone tells less: something is always near.
    """
    projected = project(features, memory, temperature=temperature)
    return np.asarray((features.values_TD * projected.values_TD).sum(axis=1))


def video_familiarity(features: Features, memory: Memory, *, temperature: float = 100.0) -> float:
    """The median of the frames' familiarity: one odd frame (a fade, a title) does not make a video
    strange."""
    if not len(features):
        raise UserError("no frame to compare with the memory: the features are empty")
    return float(np.median(familiarity(features, memory, temperature=temperature)))


def calibrated(
    memory: Memory, held_in: Sequence[Features], *, percentile: float = 1.0, temperature: float = 100.0
) -> Memory:
    """The memory with a threshold: that percentile of the familiarity of videos which are known to fit it.

    So about `percentile` in a hundred fitting videos will be called unfamiliar.
    """
    if not held_in:
        raise UserError(
            "a threshold needs the features of at least one video that fits the memory; none came"
        )
    known = [video_familiarity(features, memory, temperature=temperature) for features in held_in]
    return replace(memory, threshold=float(np.percentile(known, percentile)))


def is_familiar(features: Features, memory: Memory, *, temperature: float = 100.0) -> bool:
    """Whether a video is like something in the memory, which was calibrated at the same temperature.

    Raises UserError where the memory was never calibrated.
    """
    if memory.threshold is None:
        raise UserError("this memory has no familiarity threshold: calibrate it on videos that fit it")
    return video_familiarity(features, memory, temperature=temperature) >= memory.threshold
