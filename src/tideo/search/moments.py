"""Scores of frames → moments: neighbouring frames of one video that score alike are one.

A moment is a peak, the best frame that no better moment has taken, and its neighbours on both sides for as long as they
score at least halfway from the mean of their video to the peak. It also takes, without showing them, the frames from
there down to the next rise, so that the slope of one event is not another result. A frame stands for half of the
time to each of its neighbours.

Shapes: T frames of a video, N rows of a library.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tideo.search.library import Item


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A stretch of a video. `score`: the cosine of the text and its best frame. `shown_s`: times of frames to show."""

    item: Item
    start_s: float
    end_s: float
    score: float
    shown_s: tuple[float, ...]  # the first, the best and the last frame, each once


def best_moments(items: Sequence[Item], scores_N: np.ndarray, *, num: int) -> list[Moment]:
    """At most `num` moments, the best first; of equal ones, the item that comes first, then the earlier frame.

    Moments of one file do not overlap, of its segments neither. A row with -inf is no frame.
    """
    left: dict[int, np.ndarray] = {}  # the scores of an item's frames that no moment has taken
    best_I = _maxima(items, scores_N)
    heap = [(-float(best), place) for place, best in enumerate(best_I) if best > -np.inf]
    heapq.heapify(heap)
    found: list[Moment] = []
    while heap and len(found) < num:
        _, place = heapq.heappop(heap)
        item = items[place]
        scores_T = scores_N[item.first : item.last]
        left_T = left.setdefault(place, scores_T.copy())
        peak = int(left_T.argmax())
        first, last = _alike(scores_T, left_T, peak)
        moment = _moment(item, first, peak, last, score=float(scores_T[peak]))
        if not any(_overlap(moment, other) for other in found):
            found.append(moment)
        while first > 0 and scores_T[first - 1] <= scores_T[first]:
            first -= 1
        while last < len(scores_T) - 1 and scores_T[last + 1] <= scores_T[last]:
            last += 1
        left_T[first : last + 1] = -np.inf
        if (next_best := float(left_T.max())) > -np.inf:
            heapq.heappush(heap, (-next_best, place))
    return found


def _maxima(items: Sequence[Item], scores_N: np.ndarray) -> np.ndarray:
    bounds = np.array([(item.first, item.last) for item in items]).ravel()
    best_I: np.ndarray = np.maximum.reduceat(np.append(scores_N, np.float32(-np.inf)), bounds)[::2]
    return best_I


def _alike(scores_T: np.ndarray, left_T: np.ndarray, peak: int) -> tuple[int, int]:
    """The first and the last frame of the moment around a peak."""
    mean = scores_T[scores_T > -np.inf].mean(dtype=np.float64)
    level = min((mean + scores_T[peak]) / 2, scores_T[peak])  # of a peak below the mean, equal frames alone
    below = np.flatnonzero(left_T < level - 1e-6)  # what rounding does to equal scores
    at = int(np.searchsorted(below, peak))
    first = int(below[at - 1]) + 1 if at > 0 else 0
    last = int(below[at]) - 1 if at < len(below) else len(left_T) - 1
    return first, last


def _moment(item: Item, first: int, peak: int, last: int, *, score: float) -> Moment:
    pts_s_T = item.pts_s_T
    gaps_s = np.diff(pts_s_T) / 2
    before_s = gaps_s[max(first - 1, 0)] if len(gaps_s) else 0.0  # of the first frame, as much as after it
    after_s = gaps_s[min(last, len(gaps_s) - 1)] if len(gaps_s) else 0.0
    return Moment(
        item=item,
        start_s=round(max(0.0, float(pts_s_T[first] - before_s)), 3),
        end_s=round(float(pts_s_T[last] + after_s), 3),
        score=round(score, 6),
        shown_s=tuple(float(pts_s_T[i]) for i in sorted({first, peak, last})),
    )


def _overlap(one: Moment, other: Moment) -> bool:
    same = one.item.id == other.item.id or (one.item.path is not None and one.item.path == other.item.path)
    return same and one.start_s < other.end_s and other.start_s < one.end_s
