"""The clause of a question that names a moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo.encoders.moment import moment


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("what does he do after he pours the tea?", "he pours the tea"),
        ("What is the girl doing right before opening the window?", "opening the window"),
        ("what is the boy doing while a cat walks by?", "a cat walks by"),
        ("why did the baby cry when its mother left", "its mother left"),
        ("what do they eat during the picnic in the park?", "the picnic in the park"),
        ("After the man sits down, what does he do?", "the man sits down"),
        ("When she opens the door, who stands there?", "she opens the door"),
        ("what changes before and after the fire starts?", "the fire starts"),
        ("when does he sing while the others dance?", "the others dance"),
        ("What happens after he falls. Answer in a sentence.", "he falls"),
        ("what does he do after he sits down, or before?", "he sits down"),
    ],
)
def test_a_clause_that_names_a_moment(question: str, expected: str) -> None:
    assert moment(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "who pours the tea?",
        "when does she water the plants?",
        "When is the door open?",
        "what happened before?",
        "what happens after that?",
        "what does he do after a while?",
        "how is the aftermath of the whiteout?",
        "was tut er, nachdem er den Tee eingießt?",
        "",
    ],
)
def test_without_one_the_question_counts(question: str) -> None:
    assert moment(question) == question


@given(st.text(alphabet="ab whenafter,.?\n", max_size=60))
def test_what_is_compared_is_part_of_the_question_and_not_empty(question: str) -> None:
    assert moment(question) in question
    assert moment(question).strip() or not question.strip()
