"""The nouns refuse what cannot be meant."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tideo.types import Question, Sample, UserError, Video

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
