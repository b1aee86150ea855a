"""Accuracy with intervals that know that questions about one video are not independent.

Shapes: N questions, G videos (the clusters).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Z975 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Share of right answers (a failure is wrong). `stderr` and `ci95` are clustered by video."""

    n: int
    accuracy: float
    stderr: float
    ci95: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Accuracy minus another on the same questions. `p` is McNemar's, which ignores the clusters."""

    n: int
    difference: float
    stderr: float
    ci95: tuple[float, float]
    p: float


def accuracy(correct: Sequence[float], *, clusters: Sequence[Hashable]) -> Accuracy:
    """Accuracy of N questions, each with its cluster (the video's id). A value between 0 and 1 is a mean over seeds.

    The interval is Wilson's at the effective sample size p(1-p)/stderr², at most N: it stays within 0..1 and
    keeps a width where all answers are right (after Korn and Graubard, Survey Methodology 24, 1998).
    Raises ValueError where there is no question.
    """
    values_N = np.asarray(correct, dtype=float)
    return _with_interval(*_clustered_mean(values_N, clusters), n=len(values_N))


def mean_of_kinds(
    correct: Sequence[float], *, kinds: Sequence[Hashable], clusters: Sequence[Hashable]
) -> Accuracy:
    """The mean of the kinds' accuracies, as STAR and MVBench publish it, whatever their numbers of questions.

    The questions are taken with the weights that make them so; interval as for `accuracy`.
    Raises ValueError where there is no question or the lengths differ.
    """
    values_N, of_kind = (
        np.asarray(correct, dtype=float),
        np.unique(list(map(str, kinds)), return_inverse=True)[1],
    )
    if len(values_N) != len(of_kind):
        raise ValueError(f"{len(values_N)} answers with {len(of_kind)} kinds")
    counts_K = np.bincount(of_kind)
    weights_N = len(values_N) / (len(counts_K) * counts_K[of_kind])  # 1 on average
    means_K = np.bincount(of_kind, weights=values_N) / counts_K
    mean = float(means_K.mean())
    _, stderr, num_clusters = _clustered_mean(mean + weights_N * (values_N - means_K[of_kind]), clusters)
    return _with_interval(mean, stderr, num_clusters, n=len(values_N))


def mean(scores: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """`mean`, `stderr` and `ci95` of scores of independent videos, or of their paired differences (Student's t).

    Raises ValueError where there is no score.
    """
    values_N = np.asarray(scores, dtype=float)
    middle, stderr, _ = _clustered_mean(values_N, range(len(values_N)))
    half = t975(len(values_N) - 1) * stderr if len(values_N) > 1 else None
    ci95 = None if half is None else (middle - half, middle + half)
    return {"mean": middle, "stderr": stderr, "ci95": ci95}


def difference(
    correct: Sequence[float], other: Sequence[float], *, clusters: Sequence[Hashable]
) -> Difference:
    """`correct` against `other`, paired by question; the interval is clustered by video.

    Values may be means over seeds, as for `accuracy`; `p` then counts the questions that either does better.

    Raises ValueError where there is no question or the lengths differ.
    """
    if len(correct) != len(other):
        raise ValueError(f"{len(correct)} and {len(other)} answers are not paired")
    deltas_N = np.asarray(correct, dtype=float) - np.asarray(other, dtype=float)
    mean, stderr, num_clusters = _clustered_mean(deltas_N, clusters)
    half = t975(num_clusters - 1) * stderr if num_clusters > 1 else 1.0 + abs(mean)
    return Difference(
        n=len(deltas_N),
        difference=mean,
        stderr=stderr,
        ci95=(max(-1.0, mean - half), min(1.0, mean + half)),
        p=mcnemar(int((deltas_N > 0).sum()), int((deltas_N < 0).sum())),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of as uneven a split of the questions that only one of two models gets right."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail, term = 0, 1
    for k in range(fewer + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def t975(df: int) -> float:
    """The 97.5% quantile of Student's t (Abramowitz and Stegun 26.7.5), infinite for df = 0."""
    if df < 1:
        return math.inf
    if df < 3:  # where the expansion is too coarse: exact
        return (math.tan(0.475 * math.pi), math.sqrt(2 * 0.95**2 / (1 - 0.95**2)))[df - 1]
    z = Z975
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    )


def _with_interval(mean: float, stderr: float, num_clusters: int, *, n: int) -> Accuracy:
    variance = mean * (1 - mean)
    num_effective = variance / stderr**2 if stderr > 0 and variance > 0 else float(num_clusters)
    ci95 = _wilson(mean, min(num_effective, n), t975(num_clusters - 1))
    return Accuracy(n=n, accuracy=mean, stderr=stderr, ci95=ci95)


def _clustered_mean(values_N: np.ndarray, clusters: Sequence[Hashable]) -> tuple[float, float, int]:
    """Mean, its standard error sqrt(G/(G-1) · Σ_g (Σ_i (x_i - mean))²) / N, and G.

    One video tells nothing about others; its standard error is that of independent questions.
    """
    if len(values_N) == 0:
        raise ValueError("no answers to average")
    index: dict[Hashable, int] = {}
    cluster_N = np.array([index.setdefault(c, len(index)) for c in clusters])
    if len(cluster_N) != len(values_N):
        raise ValueError(f"{len(values_N)} answers with {len(cluster_N)} clusters")
    mean, n, g = float(values_N.mean()), len(values_N), len(index)
    if g == 1:
        return mean, float(values_N.std()) / math.sqrt(n), 1
    sums_G = np.bincount(cluster_N, weights=values_N - mean, minlength=g)
    return mean, math.sqrt(g / (g - 1) * float((sums_G**2).sum())) / n, g


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval."""
    if math.isinf(z):
        return 0.0, 1.0
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
