"""The nouns refuse what cannot be meant."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tideo.types import Frames, Question, Sample, UserError, Video

VIDEO = Video(id="v", path="v.mp4")


@pytest.mark.parametrize("noun", [Question, Sample])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"options": "making tea"}, r"'making tea' is one text where several are expected"),
        ({"options": ("tea", "book"), "answer": 2}, r"answer 2 is not an index of 2 options"),
        ({"options": ("tea", "book"), "answer": -1}, r"answer -1 is not an index"),
    ],
)
def test_options_are_several_texts_and_the_answer_one_of_them(
    noun: Any, fields: dict[str, Any], message: str
) -> None:
    others = {"id": "1", "video": VIDEO} if noun is Sample else {}
    with pytest.raises(UserError, match=message):
        noun(question="what", **others, **fields)


def test_references_are_several_texts() -> None:
    with pytest.raises(UserError, match="'a man cooks' is one text"):
        Sample(id="1", video=VIDEO, question="", references="a man cooks")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start_s", "end_s", "message"),
    [
        (-1.0, None, r"video v: the segment starts at -1\.0 s; expected a time in seconds from 0 on"),
        (math.nan, 2.0, "starts at nan s"),
        (0.0, math.nan, "ends at nan s"),
        (None, math.inf, "ends at inf s"),
        (None, -2.0, "ends at -2"),
        (3.0, 2.0, "ends at 2.0 s, not after its start at 3.0 s"),
    ],
)
def test_a_segment_is_a_span_of_time(start_s: float | None, end_s: float | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Video(id="v", path="v.mp4", start_s=start_s, end_s=end_s)


@pytest.mark.parametrize(
    ("pts_s", "bounds_s", "places"),
    [
        ([2.0, 4.0, 11.5], (2.0, 12.0), [0.0, 0.2, 0.95]),
        ([1.0, 13.0], (2.0, 12.0), [0.0, 1.0]),  # the frame on display at the start may be older
        ([5.0], (5.0, 5.0), [0.5]),
        ([7.0, 8.0, 9.0, 10.0], None, [0.125, 0.375, 0.625, 0.875]),
        ([0.0, 9.0, 12.0], None, [1 / 6, 2 / 3, 5 / 6]),
        ([3.0], None, [0.5]),
    ],
)
def test_where_frames_lie_in_their_segment(
    pts_s: list[float], bounds_s: tuple[float, float] | None, places: list[float]
) -> None:
    rgb = np.zeros((len(pts_s), 2, 2, 3), np.uint8)
    frames = Frames(rgb_THWC=rgb, pts_s_T=np.array(pts_s), video_id="v", bounds_s=bounds_s)
    assert frames.places_T == pytest.approx(places)
    assert frames.at([0]).bounds_s == bounds_s
