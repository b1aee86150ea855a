"""Familiarity: how near the frames of a video are to the memory that its features are projected onto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tideo.encoders.memory import Memory, project
from tideo.types import Features, UserError


def familiarity(features: Features, memory: Memory, *, temperature: float = 100.0) -> np.ndarray:
    """The cosine of each frame with its projection, float32 [T].

    The cosine with the nearest caption would separate videos less well: some caption is always near.
    """
    projected = project(features, memory, temperature=temperature)
    return np.asarray((features.values_TD * projected.values_TD).sum(axis=1))


def video_familiarity(features: Features, memory: Memory, *, temperature: float = 100.0) -> float:
    """The median of the frames' familiarity, which one odd frame (a fade, a title) hardly changes."""
    if not len(features):
        raise UserError("no frame to compare with the memory: the features are empty")
    return float(np.median(familiarity(features, memory, temperature=temperature)))


def calibrated(
    memory: Memory, held_in: Sequence[Features], *, percentile: float = 1.0, temperature: float = 100.0
) -> Memory:
    """The memory with a threshold: a percentile of the familiarity of videos that are known to fit it.

    So about `percentile` in a hundred fitting videos will fall below the threshold.
    """
    if not held_in:
        raise UserError(
            "a threshold needs the features of at least one video that fits the memory, not of none"
        )
    known = [video_familiarity(features, memory, temperature=temperature) for features in held_in]
    return replace(memory, threshold=float(np.percentile(known, percentile)))


def below(value: float, threshold: float) -> str:
    """The value and the threshold that it is below, with as many decimals as tell them apart, two at least."""
    decimals = next((n for n in range(2, 9) if f"{value:.{n}f}" != f"{threshold:.{n}f}"), 9)
    return f"{value:.{decimals}f}, expected {threshold:.{decimals}f} or more"
