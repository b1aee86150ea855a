"""Uneven times for training."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo.train.uneven import uneven_places, uneven_times


@given(num=st.integers(1, 64), seed=st.integers())
def test_places_ascend_within_the_segment(num: int, seed: int) -> None:
    places = uneven_places(num, rng=random.Random(seed))
    assert len(places) == num
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1
    assert places == uneven_places(num, rng=random.Random(seed))


@given(num=st.integers(1, 32), start_s=st.floats(0, 1e4), length_s=st.floats(0, 1e4), seed=st.text())
def test_times_never_leave_the_segment_and_are_those_of_a_pool(
    num: int, start_s: float, length_s: float, seed: str
) -> None:
    end_s = start_s + length_s
    times_s = uneven_times(None, num, start_s, end_s, seed=seed)
    assert len(times_s) == num
    assert start_s <= times_s[0] <= times_s[-1] <= end_s
    gaps = [b - a for a, b in itertools.pairwise(times_s)]
    assert all(gap >= min(1, length_s / num) * 0.5 - 1e-6 for gap in gaps)


def test_times_are_uneven_over_the_whole_segment() -> None:
    drawn = [uneven_times(None, 8, 100.0, 200.0, seed=str(seed)) for seed in range(300)]
    means = [sum(times[k] for times in drawn) / len(drawn) for k in range(8)]
    assert means == pytest.approx([100 + 100 * (k + 1) / 9 for k in range(8)], abs=4)
    widest = [max(b - a for a, b in itertools.pairwise(times)) for times in drawn]
    assert max(widest) > 60
    assert min(widest) < 25
    assert uneven_times(None, 4, 0.0, 4.0, seed="short") == [0.5, 1.5, 2.5, 3.5]
