"""Scores of frames become moments, by literals and by properties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo.search.library import Item
from tideo.search.moments import Moment, best_moments

Spans = list[tuple[str, float, float, float]]


def library(*videos: Sequence[float], path: str | None = None) -> tuple[list[Item], np.ndarray]:
    """A frame a second, from 0.5 on."""
    items, first = [], 0
    for number, scores in enumerate(videos):
        times = np.arange(len(scores)) + 0.5
        last = first + len(scores)
        items.append(
            Item(
                id=f"v{number}",
                key=str(number),
                first=first,
                last=last,
                pts_s_T=times,
                path=path,
                content=None,
            )
        )
        first = last
    return items, np.concatenate([np.array(scores, np.float32) for scores in videos])


def spans(moments: Sequence[Moment]) -> Spans:
    return [(m.item.id, m.start_s, m.end_s, round(m.score, 3)) for m in moments]


LOST = -np.inf


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (
            [0, 0, 0.8, 1, 0.9, 0, 0, 0],
            [("v0", 2, 5, 1)],
        ),  # what follows falls: it is the slope, and no result
        ([0, 1, 0, 0, 0, 0.9, 0, 0], [("v0", 1, 2, 1), ("v0", 5, 6, 0.9)]),
        ([0, 1, 0.4, 0.3, 0.5, 0, 0, 0], [("v0", 1, 2, 1), ("v0", 4, 5, 0.5)]),
        ([0.5, 0.5, 0.5], [("v0", 0, 3, 0.5)]),
        ([0.5], [("v0", 0.5, 0.5, 0.5)]),
        ([1, LOST, 1, 0, 0, 0, 0, 0], [("v0", 0, 1, 1), ("v0", 2, 3, 1)]),  # a lost frame ends a moment
        ([LOST, LOST], []),
    ],
)
def test_moments_of_a_video(scores: list[float], expected: Spans) -> None:
    assert spans(best_moments(*library(scores), num=2)) == expected


def test_equal_scores_come_in_the_order_of_the_library() -> None:
    videos = ([0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0])
    found = best_moments(*library(*videos), num=3)
    assert [(m.item.id, m.start_s) for m in found] == [("v0", 1), ("v0", 4), ("v1", 3)]


def test_the_pictures_are_of_the_first_the_best_and_the_last_frame() -> None:
    items, scores = library([0, 0, 0.8, 0.9, 1, 0.9, 0, 0, 0])
    (moment, *_) = best_moments(items, scores, num=1)
    assert moment.shown_s == (2.5, 4.5, 5.5)


def test_segments_of_one_file_give_no_moment_twice() -> None:
    videos = ([0, 1, 0, 0], [0, 0.9, 0, 0], [0, 0, 0, 0.8])
    assert spans(best_moments(*library(*videos, path="same.mp4"), num=2)) == [
        ("v0", 1, 2, 1),
        ("v2", 3, 4, 0.8),
    ]


@given(
    st.lists(
        st.lists(st.sampled_from([LOST, 0.0, 0.1, 0.2, 0.25, 0.3]), min_size=1, max_size=30),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 12),
)
def test_moments_never_overlap_and_fall_in_score(videos: list[list[float]], num: int) -> None:
    items, scores = library(*videos)
    found = best_moments(items, scores, num=num)
    assert len(found) <= num
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    finite = scores[scores > LOST]
    assert (found[0].score == pytest.approx(finite.max())) if len(finite) else not found
    for i, one in enumerate(found):
        inside = (one.item.pts_s_T >= one.start_s) & (one.item.pts_s_T <= one.end_s)
        assert scores[one.item.first : one.item.last][inside].max() == pytest.approx(one.score)
        for other in found[:i]:
            same = other.item is one.item
            assert not (same and one.start_s < other.end_s and other.start_s < one.end_s)
