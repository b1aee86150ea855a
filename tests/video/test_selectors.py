"""Frames of a pool for a question: what every selector promises, and each one's own formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo.registry import BUILTIN, load
from tideo.types import UserError
from tideo.video.selectors import aks, beside_even, bolt, coverage, is_selector, question, rescaled, selector

NAMES = [name for name in BUILTIN["samplers"] if is_selector(name)]
# Whole numbers, so that scaling by a power of two is exact and no tie is decided by rounding.
pools = st.integers(1, 40).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(-50, 50), min_size=size, max_size=size), st.integers(0, 1000), st.integers(1, 50)
    )
)


def pool(relevance: list[int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.random.default_rng(seed).normal(size=(len(relevance), 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.array(relevance, dtype=float), rows, np.arange(len(relevance)) * 1.5


def test_there_are_four() -> None:
    assert NAMES == ["aks", "bolt", "coverage", "question"]
    assert not is_selector("middle")


@pytest.mark.parametrize("name", NAMES)
@given(drawn=pools)
def test_every_selector_keeps_its_promises(name: str, drawn: tuple[list[int], int, int]) -> None:
    relevance, seed, num = drawn
    select, (relevance_P, features_PD, times_P) = load("samplers", name), pool(relevance, seed)
    chosen = select(relevance_P, features_PD, times_P, num)
    assert len(chosen) == min(num, len(relevance))
    assert chosen == sorted(set(chosen))
    assert all(type(index) is int and 0 <= index < len(relevance) for index in chosen)
    assert select(relevance_P, features_PD, times_P, num) == chosen
    assert select(relevance_P * 4 - 8, features_PD, times_P, num) == chosen  # only differences count


@pytest.mark.parametrize("name", NAMES)
@given(drawn=pools, even=st.floats(0.01, 0.99))
def test_beside_even_frames_a_selector_keeps_its_promises(
    name: str, drawn: tuple[list[int], int, int], even: float
) -> None:
    relevance, seed, num = drawn
    select, arrays = beside_even(load("samplers", name), even), pool(relevance, seed)
    chosen = select(*arrays, num)
    assert len(chosen) == min(num, len(relevance))
    assert chosen == sorted(set(chosen))
    if 1 < num < len(relevance):
        # The even frames are the same whatever the selector takes beside them.
        num_even = min(max(round(even * num), 1), num - 1)
        flat = beside_even(_last, even)(*arrays, num)
        assert len(set(flat) & set(chosen)) >= num_even


@selector
def _last(relevance_P: np.ndarray, features_PD: np.ndarray, times_P: np.ndarray, num: int) -> list[int]:
    """The last frames."""
    return list(range(len(times_P) - num, len(times_P)))


def test_even_frames_are_the_middles_of_equal_intervals_of_time() -> None:
    frames = np.zeros(8), np.zeros((8, 2))
    assert beside_even(_last, 0.5)(*frames, np.arange(8.0), 4) == [
        1,
        5,
        6,
        7,
    ]  # the even ones nearest to 1.5 and 5.5
    gaps = np.array([0.0, 1, 2, 3, 4, 5, 6, 15])  # 0 to 15 s, of which half of 15/7 s on either side
    assert beside_even(_last, 0.5)(*frames, gaps, 4) == [
        3,
        5,
        6,
        7,
    ]  # near 3.2 s; 11.8 s lies between 6 and 15
    assert beside_even(_last, 0.01)(*frames, np.arange(8.0), 3) == [3, 6, 7]  # at least one is even
    assert beside_even(_last, 0.99)(*frames, np.arange(8.0), 3) == [1, 5, 7]  # and one is chosen
    assert beside_even(_last, 0.5)(*frames, np.arange(8.0), 1) == [7]
    assert beside_even(_last, 0) is _last
    with pytest.raises(UserError, match="even=1: expected a share"):
        beside_even(_last, 1)


def test_what_differs_by_rounding_is_equal() -> None:
    assert not rescaled(np.array([0.5, 0.5 + 2e-7, 0.5 - 2e-7])).any()
    assert rescaled(np.array([0.5, 0.501])).tolist() == [0, 1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevance_P": np.array([0.0, np.nan, 1.0])}, "a relevance of the pool is not a finite number"),
        ({"features_PD": np.full((3, 2), np.inf)}, "a feature of the pool is not a finite number"),
        ({"times_P": np.array([0.0, np.nan, 1.0])}, "a time of the pool is not a finite number"),
        ({"relevance_P": np.zeros(2)}, r"relevance \[2\] and features \[3, 2\] of 3 frames"),
        ({"features_PD": np.zeros((2, 2))}, r"features \[2, 2\] of 3 frames: expected one value and one row"),
        ({"num": 0}, "0 frames of 3: expected at least one of each"),
        ({"times_P": np.zeros(0)}, "2 frames of 0: expected at least one of each"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(name: str, change: dict[str, Any], message: str) -> None:
    given = {"relevance_P": np.zeros(3), "features_PD": np.zeros((3, 2)), "times_P": np.arange(3.0), "num": 2}
    with pytest.raises(UserError, match=message):
        load("samplers", name)(*(given | change).values())


def chosen(
    select: Any, relevance: list[float], num: int, features: list[list[float]] | None = None
) -> list[int]:
    rows = np.eye(len(relevance)) if features is None else np.array(features)
    return select(np.array(relevance), rows, np.arange(len(relevance), dtype=float), num)


def test_bolt_takes_equal_steps_of_the_distribution() -> None:
    # p = (0, 0, 1, 1, 0, 0) / 2 and levels 1/4, 1/2, 3/4 of its sum: frame 2, again 2, which gives way to 1, and 3
    assert chosen(bolt, [0, 0, 9, 9, 0, 0], 4) == [1, 2, 3, 4]
    assert chosen(bolt, [0, 0, 0, 0, 5, 0, 0, 0, 0], 1) == [4]
    assert chosen(bolt, [7] * 8, 4) == [1, 3, 4, 5]  # levels 1/4, 5/12, 7/12, 3/4 of a uniform distribution
    # α = 2.5: beside r = 1 an r of 1/2 has a weight of 0.177, so that the second half gets the last of 8 levels alone
    assert chosen(bolt, [0, *[4] * 20, *[2] * 20, 0], 8) == [3, 6, 8, 11, 14, 16, 19, 24]


def test_aks_takes_the_peak_or_halves() -> None:
    peak = [0.0] * 64
    peak[40:44] = [1.0] * 4
    assert chosen(aks, peak, 4) == [
        40,
        41,
        42,
        43,
    ]  # mean of the best 4 minus the mean: 0.94, so no segment is halved
    ramp = list(np.linspace(0, 1, 64))
    assert chosen(aks, ramp, 4) == [15, 31, 47, 63]  # two halvings, each quarter's best
    assert chosen(aks, ramp, 5) == [15, 31, 47, 62, 63]  # what is left over: the best of all
    assert chosen(aks, ramp, 3) == [31, 62, 63]  # depth log2 3 → 1: one of each half
    assert len(chosen(aks, [1.0] * 3000, 64)) == 64  # at most 5 halvings, 2 frames of each part


def test_question_passes_over_doubles() -> None:
    rows = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert chosen(question, [0.9, 0.8, 0.5, 0.1], 2, rows) == [0, 2]
    assert chosen(question, [0.9, 0.8, 0.5, 0.1], 1, rows) == [0]


def test_coverage_shows_every_scene() -> None:
    rows = [[1.0, 0.0, 0.0]] * 6 + [[0.0, 1.0, 0.0]] * 3 + [[0.0, 0.0, 1.0]] * 3
    even = [0.0] * 12
    assert chosen(coverage, even, 3, rows) == [0, 6, 9]
    assert chosen(coverage, [*even[:-1], 1.0], 3, rows) == [0, 6, 11]  # of a scene, the frame of the question
