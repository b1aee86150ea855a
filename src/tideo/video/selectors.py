"""Which frames of a pool to look at for a question. A selector is a function from their relevance to indices.

Shapes: P frames of the pool in time order, D feature width. The features are unit rows of a dual encoder, the
relevance is their similarity to the question, of which only differences count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tideo import registry
from tideo.types import UserError

ROUNDING = 1e-6  # of float32 similarities: values that differ by no more are equal
# (relevance_P, features_PD, times_P, number of frames) → sorted indices, min(number, P) different ones
Selector = Callable[[np.ndarray, np.ndarray, np.ndarray, int], list[int]]


def is_selector(name: str) -> bool:
    """Whether the sampler of that name is a selector: it chooses for a question, from a pool."""
    known = name in registry.builtin("samplers") or name in registry.targets("samplers")
    return known and hasattr(registry.load("samplers", name), "of_selector")


def selector(choose: Selector) -> Selector:
    """Let a function be a selector: it gets float64 values, fewer than P frames to choose, and need not sort.

    The selector raises UserError for a pool without frames, arrays that do not fit together, values that are not
    finite, and for less than one frame. Asked for P frames or more it returns all.
    """

    @wraps(choose)
    def checked(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
        relevance_P, features_PD, times_P = (
            np.asarray(values, dtype=np.float64) for values in (relevance_P, features_PD, times_P)
        )
        size = len(times_P)
        if num < 1 or size < 1:
            raise UserError(f"{num} frames of {size}: expected at least one of each")
        if relevance_P.shape != (size,) or features_PD.ndim != 2 or len(features_PD) != size:
            raise UserError(
                f"relevance {list(relevance_P.shape)} and features {list(features_PD.shape)} of {size} frames: "
                "expected one value and one row for each"
            )
        for what, values in (("relevance", relevance_P), ("feature", features_PD), ("time", times_P)):
            if not np.isfinite(values).all():
                raise UserError(f"a {what} of the pool is not a finite number: encode the video again")
        if num >= size:
            return list(range(size))
        return sorted(int(index) for index in choose(relevance_P, features_PD, times_P, num))

    as_sampler: Any = checked
    as_sampler.of_selector = True
    return checked


def check_even(even: float) -> None:
    """Raise UserError for a share of even frames that cannot be."""
    if not 0 <= even < 1:
        raise UserError(f"even={even:g}: expected a share of the frames, at least 0 and below 1")


def beside_even(choose: Selector, even: float) -> Selector:
    """A selector of which a share of the frames are even, and `choose` takes the others from what is left of the pool.

    Of n frames, round(even · n) are the nearest to the middles of as many equal intervals of the pool's time: at least
    one of several where `even` is above 0, at most n − 1. Raises UserError unless 0 ≤ even < 1.
    """
    check_even(even)
    if even == 0:
        return choose

    @selector
    def both(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
        num_even = min(max(round(even * num), 1), num - 1)
        step = (times_P[-1] - times_P[0]) / (len(times_P) - 1)  # a frame stands for half of it on either side
        levels = (np.arange(num_even) + 0.5) / max(num_even, 1)
        wanted = np.interp(
            times_P[0] - step / 2 + levels * (times_P[-1] - times_P[0] + step),
            times_P,
            np.arange(len(times_P)),
        )
        chosen = _free(wanted, len(times_P))
        left = np.setdiff1d(np.arange(len(times_P)), chosen)
        others = choose(relevance_P[left], features_PD[left], times_P[left], num - num_even)
        return chosen + left[others].tolist()

    return both


@selector
def question(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
    """The most relevant frame, then those that are relevant and unlike all chosen (needs a question).

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): argmax (r_i − max_{j chosen} s_ij) / 2, with the
    relevance r and the similarity s of frames each rescaled to 0–1 over the pool, since a dual encoder's scores differ
    by little.
    """
    relevance_P, similarity_PP = rescaled(relevance_P), rescaled(features_PD @ features_PD.T)
    chosen = [int(relevance_P.argmax())]
    nearest_P = similarity_PP[chosen[0]]
    while len(chosen) < num:
        score_P = relevance_P - nearest_P
        score_P[chosen] = -np.inf
        chosen.append(int(score_P.argmax()))
        nearest_P = np.maximum(nearest_P, similarity_PP[chosen[-1]])
    return chosen


@selector
def bolt(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
    """More frames where the relevance is high: equal steps of its distribution (needs a question).

    BOLT (arXiv 2503.21483; select_frames.py of sming256/BOLT): p = r^α / Σ r^α with r rescaled to 0–1 and α = 2.5, and
    the frames at CDF⁻¹(linspace(1/n, 1 − 1/n, n)). Deviations: a frame that comes twice gives way to the nearest that
    is free, equal relevance is a uniform distribution, and a single frame is the one at the median.
    """
    weights_P = rescaled(relevance_P) ** 2.5
    if not weights_P.any():
        weights_P = np.ones_like(weights_P)
    levels = np.linspace(1 / num, 1 - 1 / num, num) if num > 1 else np.array([0.5])
    return _free(np.searchsorted(np.cumsum(weights_P) / weights_P.sum(), levels), len(relevance_P))


@selector
def aks(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
    """The most relevant frames of segments, which are halved unless the relevance peaks (needs a question).

    Adaptive keyframe sampling (arXiv 2502.21271; ncTimTang/AKS): with r rescaled to 0–1, a segment is kept whole if the
    mean of its n highest r exceeds its mean by 0.8, else halved, at most 5 times; one of depth d gives its n / 2^d most
    relevant frames. Deviations: the depth is at most log2 n, beyond which a segment would give no frame, and what the
    division leaves over goes to the most relevant frames of all.
    """
    relevance_P = rescaled(relevance_P)
    by_relevance = np.argsort(-relevance_P, kind="stable")
    depths = min(5, int(math.log2(num)))
    chosen: list[int] = []
    segments = [(0, len(relevance_P), 0)]
    while segments:
        start, end, depth = segments.pop()
        of_segment = relevance_P[start:end]
        peak = np.sort(of_segment)[-num:].mean() - of_segment.mean() if len(of_segment) else 1.0
        if peak <= 0.8 and depth < depths:
            middle = (start + end) // 2
            segments += [(start, middle, depth + 1), (middle, end, depth + 1)]
        else:
            inside = by_relevance[(start <= by_relevance) & (by_relevance < end)]
            chosen += inside[: num // 2**depth].tolist()
    left = by_relevance[~np.isin(by_relevance, chosen)]
    return chosen + left[: num - len(chosen)].tolist()


@selector
def coverage(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
    """Relevant frames that together resemble every frame of the video (needs a question).

    Facility location (arXiv 2603.20180): the greedy maximum of λ · mean_{i chosen} r_i + (1 − λ) · mean_j max_{i
    chosen} s_ij, which is monotone and submodular, so within 1 − 1/e of the best. Here λ = 0.5, r and s are rescaled to
    0–1 over the pool, and one encoder gives both; the paper has a second one for s, and λ by the kind of question.
    """
    relevance_P, similarity_PP = rescaled(relevance_P), rescaled(features_PD @ features_PD.T)
    covered_P = np.zeros(len(relevance_P))
    chosen: list[int] = []
    for _ in range(num):
        gain_P = np.maximum(similarity_PP - covered_P, 0).mean(axis=1) + relevance_P / num
        gain_P[chosen] = -np.inf
        chosen.append(int(gain_P.argmax()))
        covered_P = np.maximum(covered_P, similarity_PP[chosen[-1]])
    return chosen


def rescaled(values: np.ndarray) -> np.ndarray:
    """To 0–1 over all values; zeros if they are equal, up to ROUNDING."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > ROUNDING else np.zeros_like(values)


def _free(wanted: np.ndarray, size: int) -> list[int]:
    """Of `size` places the nearest to each wanted one that none before has taken."""
    free = np.ones(size, dtype=bool)
    chosen = []
    for place in wanted:
        left = np.flatnonzero(free)
        chosen.append(int(left[np.abs(left - place).argmin()]))
        free[chosen[-1]] = False
    return chosen
