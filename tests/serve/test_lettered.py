from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo.serve.lettered import lettered

TWO = ("making tea", "doing the laundry")


@pytest.mark.parametrize(
    "text",
    [
        "what now?\nA. making tea\nB. doing the laundry",
        "what now?\nA. making tea\nB. doing the laundry\nAnswer with the option's letter from the given choices.",
        "Question:what now?\nOption:\n(A) making tea\n(B) doing the laundry\nOnly give the best option.\nBest: (",
        "Question: what now?\nOptions:\nA) making tea\n\nB) doing the laundry\n\nAnswer with the option letter only.",
        "Select the best answer to the following multiple-choice question based on the video. Respond with only the "
        "letter of the correct option.\nwhat now?\nA: making tea\nB: doing the laundry\nThe best answer is:",
        "what now?\n\n  A. making tea  \r\n  B. doing the laundry  \r\nAnswer: ",
    ],
)
def test_the_ways_in_which_benchmarks_list_options(text: str) -> None:
    assert lettered(text) == ("what now?", TWO)


@pytest.mark.parametrize(
    "text",
    [
        "what now?",
        "what now?\nA. making tea",
        "what now? A. making tea B. doing the laundry",
        "what now?\nB. making tea\nC. doing the laundry",
        "what now?\nA. making tea\nC. doing the laundry",
        "what now?\nA. making tea\n(B) doing the laundry",
        "what now?\nA. making tea\nA. doing the laundry",
        "what now?\nA. making tea\nB. making tea",
        "A. making tea\nB. doing the laundry",
        "what now?\nA. making tea\nand then\nB. doing the laundry",
        "Summarise these.\nA. making tea\nB. doing the laundry\n"
        + "And tell me at length what each of them needs. " * 8,
    ],
)
def test_a_text_that_lists_no_options_by_letters(text: str) -> None:
    assert lettered(text) is None


def test_the_last_list_counts_and_what_is_before_it_is_the_question() -> None:
    text = "She has:\nA. a cup\nB. a bowl\nWhat does she hold?\n(A) the cup\n(B) the bowl\n(C) none"
    assert lettered(text) == (
        "She has:\nA. a cup\nB. a bowl\nWhat does she hold?",
        ("the cup", "the bowl", "none"),
    )


@pytest.mark.parametrize("filler", ["\n", " ", "A. a\n", "select ", "options\n", "("])
def test_a_megabyte_takes_no_time(filler: str) -> None:
    started_s = time.perf_counter()
    lettered(
        "?\n" + filler * (1_000_000 // len(filler)) + "\nA. a\nB. b\n" + filler * (1_000_000 // len(filler))
    )
    assert time.perf_counter() - started_s < 5


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(
    lambda s: f"is {s}"
)


@given(
    question=WORDS,
    options=st.lists(WORDS, min_size=2, max_size=26, unique=True),
    way=st.sampled_from(["({}) {}", "{}) {}", "{}. {}", "{}: {}"]),
)
def test_what_is_listed_is_read(question: str, options: list[str], way: str) -> None:
    lines = [way.format(chr(ord("A") + i), option) for i, option in enumerate(options)]
    assert lettered("\n".join([question, *lines])) == (question, tuple(options))


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    found = lettered(text)
    assert found is None or len(found.options) > 1
