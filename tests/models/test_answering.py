"""Questions → answers of a model that writes: the thoughts of a local model are no part of its words."""

from __future__ import annotations

import pytest

from tideo.models.answering import Shown, answers_to
from tideo.types import Sample, Video


@pytest.mark.parametrize(
    ("generated", "text", "error"),
    [
        ("He makes tea.", "He makes tea.", None),
        ("<think>Tea?</think>\n\nHe makes tea.", "He makes tea.", None),
        ("Tea? Yes.\n</think>\nHe makes tea.", "He makes tea.", None),
        ("<think>Tea?", "", "the reply ends within a thought: set a higher max_new_tokens"),
    ],
)
def test_thoughts_are_set_aside(generated: str, text: str, error: str | None) -> None:
    sample = Sample(id="q", video=Video(id="v", path="v.mp4"), question="what happens")
    [[answer]] = answers_to(
        [Shown(what="a video", samples=[sample], form="text")],
        prompt_style="plain",
        score=lambda asked: [[] for _ in asked],
        generate=lambda video, prompt, listener: generated,
        count=lambda video, prompt: len(prompt),
    )
    assert (answer.text, answer.error) == (text, error)
