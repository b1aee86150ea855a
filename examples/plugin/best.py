"""A selector: the frames that bear most on a question, whatever they show."""

from __future__ import annotations

import numpy as np

from tideo.video.selectors import selector


@selector
def best(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
    """The most relevant frames."""
    return np.argsort(-relevance_P)[:num].tolist()
