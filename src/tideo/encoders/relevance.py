"""Frames that bear on a question: the sampler `question`, which is a dual encoder's choice among even frames.

The paper of the top-down grid (arXiv 2409.07748) leaves event-focused sampling open. Shapes: T frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import frame_features
from tideo.types import Frames, Grid, UserError, Video
from tideo.video.grid import IMAGE_SIZE, check_shape, make_grid, tell_blanks
from tideo.video.samplers import sample_frames

CANDIDATES = 4  # even frames looked at for each one kept


def question_frames(
    video: Video, num: int, *, question: str, encoder: DualEncoder, diversity: float = 0.5
) -> Frames:
    """At most `num` frames of a segment, chosen for the question, in time order. Raises as `sample_frames`."""
    candidates = sample_frames(video, CANDIDATES * num)
    return relevant_frames(candidates, num, question=question, encoder=encoder, diversity=diversity)


def question_grid(
    video: Video,
    *,
    question: str,
    encoder: str,
    rows: int = 4,
    cols: int = 4,
    image_size: int = IMAGE_SIZE,
    fit: str = "squash",
    stamps: bool = False,
) -> Grid:
    """As `video_grid` with the frames chosen for a question; `encoder` is a name that `load_encoder` takes."""
    if not question.strip():
        raise UserError("the question is empty: say what the frames are for, or use another sampler")
    check_shape(rows=rows, cols=cols, image_size=image_size, fit=fit)
    frames = question_frames(video, rows * cols, question=question, encoder=load_encoder(encoder))
    grid = make_grid(frames, rows=rows, cols=cols, image_size=image_size, fit=fit, stamps=stamps)
    tell_blanks(grid, video_id=frames.video_id)
    return grid


def relevant_frames(
    frames: Frames, num: int, *, question: str, encoder: DualEncoder, diversity: float = 0.5
) -> Frames:
    """At most `num` of these frames: near the question, and unlike one another by `diversity` (0 to 1)."""
    if not 0 <= diversity <= 1:
        raise UserError(f"diversity {diversity}: expected a share from 0 to 1")
    values_TD = frame_features(frames, encoder).values_TD
    relevance_T = values_TD @ encoder.encode_text([question])[0]
    kept = sorted(choose(relevance_T, values_TD @ values_TD.T, num=num, diversity=diversity))
    return replace(frames, rgb_THWC=frames.rgb_THWC[kept], pts_s_T=frames.pts_s_T[kept])


def choose(relevance_T: np.ndarray, similarity_TT: np.ndarray, *, num: int, diversity: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): which to keep, in the order chosen.

    Both terms are stretched to 0–1 over the candidates, since a dual encoder's scores differ by little. The first is
    the most relevant one.
    """
    relevance_T, similarity_TT = _stretched(relevance_T), _stretched(similarity_TT)
    chosen: list[int] = []
    nearest_T = np.zeros(len(relevance_T))  # similarity to the nearest one chosen
    for _ in range(min(num, len(relevance_T))):
        worth_T = (1 - diversity) * relevance_T - diversity * nearest_T if chosen else relevance_T.copy()
        worth_T[chosen] = -np.inf
        chosen.append(int(worth_T.argmax()))
        nearest_T = np.maximum(nearest_T, similarity_TT[chosen[-1]])
    return chosen


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
