"""Frames that are relevant to a question: the sampler `question`, a dual encoder's choice among even frames.

The paper of the top-down grid (arXiv 2409.07748) leaves event-focused sampling open. Shapes: T frames.
"""

from __future__ import annotations

import numpy as np

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import frame_features
from tideo.loading import Loading
from tideo.types import Frames, Grid, UserError, Video
from tideo.video.grid import IMAGE_SIZE, check_shape, make_grid, warn_of_blanks
from tideo.video.samplers import sample_frames

CANDIDATES = 4  # even frames encoded for each one chosen


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
    loading: Loading | None = None,
) -> Grid:
    """Like `video_grid`, with frames chosen for a question; `encoder` is a name that `load_encoder` takes."""
    if not question.strip():
        raise UserError("the question is empty: say what the frames are for, or use another sampler")
    check_shape(rows=rows, cols=cols, image_size=image_size, fit=fit)
    candidates = sample_frames(video, CANDIDATES * rows * cols)
    chooser = load_encoder(encoder, loading=loading)
    frames = relevant_frames(candidates, rows * cols, question=question, encoder=chooser)
    grid = make_grid(frames, rows=rows, cols=cols, image_size=image_size, fit=fit, stamps=stamps)
    warn_of_blanks(grid, video_id=frames.video_id)
    return grid


def relevant_frames(
    frames: Frames, num: int, *, question: str, encoder: DualEncoder, diversity: float = 0.5
) -> Frames:
    """At most `num` of these frames: similar to the question and, weighted by `diversity` (0 to 1), to no other one."""
    if not 0 <= diversity <= 1:
        raise UserError(f"diversity {diversity}: expected a share from 0 to 1")
    values_TD = frame_features(frames, encoder).values_TD
    relevance_T = values_TD @ encoder.encode_text([question])[0]
    kept = sorted(choose(relevance_T, values_TD @ values_TD.T, num=num, diversity=diversity))
    return frames.at(kept)


def choose(relevance_T: np.ndarray, similarity_TT: np.ndarray, *, num: int, diversity: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the indices to keep, in the order chosen.

    Both terms are rescaled to 0–1 over the candidates, since a dual encoder's scores differ by little. The first
    choice is the most relevant frame.
    """
    relevance_T, similarity_TT = _rescaled(relevance_T), _rescaled(similarity_TT)
    chosen: list[int] = []
    nearest_T = np.zeros(len(relevance_T))  # similarity to the most similar frame chosen so far
    for _ in range(min(num, len(relevance_T))):
        score_T = (1 - diversity) * relevance_T - diversity * nearest_T if chosen else relevance_T.copy()
        score_T[chosen] = -np.inf
        chosen.append(int(score_T.argmax()))
        nearest_T = np.maximum(nearest_T, similarity_TT[chosen[-1]])
    return chosen


def _rescaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
