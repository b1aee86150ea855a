"""Replies in words: what they choose, and that none is ever read as another option than it means."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideo.replies import choice_of_reply, without_thoughts

OPTIONS = ("tea", "a book", "the dishes", "A plant", "nothing")
ACTS = ("a woman reads", "a man is cooking", "a dog sleeps", "no one", "the cup")


@pytest.mark.parametrize(
    "reply",
    [
        "B", "(B)", "B.", "B)", "[B]", "b", "(b)", "b.", '"B"', "**B**", "**B.**", "`B`",
        "a book", "A book.", "“a book”", "B. a book", "(B) a book", "B: a book", "B) A book.", "B - a book",
        "B, a book",
        "B (a book)", "**B. a book**", "**B**: a book", "Option B", "option (B).", "Option B is correct.",
        "B is the correct answer.", "(B) is correct", "The answer is B.", "the correct answer is (B)",
        "Answer: B",
        "Answer: a book", "The answer is **(B) a book**.", "**Answer:** B", "Answer: **B**",
        "My final answer is B.",
        "The best answer to the question is: B", "It is B.", "It's a book.", "I would choose B.",
        "So, the answer is B.",
        "Based on the frames, the answer is B.", "According to the information in the video, the correct option is B.",
        "<answer>B</answer>", "<answer>\nB. a book\n</answer>", r"\boxed{B}", r"$\boxed{\text{B}}$",
        r"\(\boxed{B}\)",
        r"The final answer is $\boxed{B}$.", '{"answer": "B"}', '{"choice": "a book"}',
        '```json\n{"answer": "B"}\n```',
        "```\nB\n```", "<|begin_of_box|>B<|end_of_box|>", "B</s>", "B<|im_end|>", "（Ｂ）", "Answer：B",
        "<think>A? No.</think>B", "<thinking>\nA\n</thinking>\n\n(B)", "It is A, I guess.\n</think>\nB",
        "<think></think>B",
        "[THINK]A[/THINK]B", "◁think▷A◁/think▷B", "<THINK>A</THINK>B", "<think>a <think>b</think> c</think> B",
        "<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>",
    ],
)  # fmt: skip
def test_a_reply_that_says_one_option_is_read(reply: str) -> None:
    assert choice_of_reply(reply, OPTIONS) == 1


@pytest.mark.parametrize(
    "reply",
    [
        "", " ", ".", "F", "a", "i", "z", "A or B", "A and B", "A, B", "A: B", "A/B", "A\nB", "B B", "AB",
        "B?", "Maybe B", "B, I guess",
        "A. a book", "(A) a book", "The answer is A: a book", "Answer: C. a book", "A man reads",
        "The answer is a cup",
        "not B", "Not a book.", "The answer is not B", "It is B, not A", "Option B is wrong.",
        "It cannot be option B.",
        "B is not the answer", "B is incorrect", "The wrong answer is B", "I would rule out option B",
        "All but B",
        "Neither A nor B", "Any but a book", "The answer is A or B.", "The answer is A and B", "The answer is",
        "A. Wait, B", "The answer is A, no, the answer is B", "A… B", "B. a book is wrong", "B. a book or tea",
        "B because he reads", "<answer>A</answer><answer>B</answer>", r"\boxed{A} \boxed{B}", r"\boxed{A, B}",
        '{"answer": "A", "answer": "B"}', '{"answer": "B", "but": "A"}', '{"answer": ["A", "B"]}',
        '{"answer": 1}', '{"wrong": "B"}',
        "<think>B", "<think>it is A</think> A <think>no</think> B", "B <think>or A", "<answer>B", "1", "2",
        "option 2",
        "I cannot see the video.", "None of the above", "The first choice is B", "Is it B", "If A then B",
        "A's",
    ],
)  # fmt: skip
def test_any_other_reply_is_a_failure(reply: str) -> None:
    assert choice_of_reply(reply, OPTIONS) is None


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        ("Answer: A man is cooking.", ACTS, 1), ("The correct option is A man is cooking.", ACTS, 1),
        ("Answer: A dog sleeps", ACTS, 2), ("Option A man is cooking", ACTS, None),
        ("A man is cooking", ACTS, 1),
        ("A. man is cooking", ACTS, None), ("No one.", ACTS, 3), ("The answer is no one", ACTS, 3),
        ("A, no one", ACTS, None),
        # An option's text is a letter, a label or a number.
        ("B", ("B", "A", "C"), None), ("Answer: B", ("B", "A", "C"), None), ("C", ("B", "A", "C"), 2),
        ("b", ("B", "x"), None),
        ("A, B", ("B", "x"), None), ("A", ("x", "A. y"), None), ("A. y", ("x", "A. y"), 1),
        ("(A) x", ("x", "A. y"), None),
        ("2", ("1", "2", "3"), 1), ("Answer: 2", ("0", "2", "1"), 1), ("B. 2", ("1", "2", "3"), 1),
        ("A. 2", ("1", "2", "3"), None),
        ("Option 1", ("0", "1", "2"), None), ("The correct option is 1", ("0", "1", "2"), None),
        ("2 or 3", ("2", "3"), None),
        ("Both A and B", ("x", "y", "both A and B"), 2),
        # Texts that are equal, empty, or begin alike.
        ("tea", ("tea", "Tea."), None), ("A. tea", ("tea", "Tea."), 0), ("", ("", "x"), None),
        ("A. ", ("", "x"), 0),
        ("the cup", ("the cup", "the cup and saucer"), 0),
        ("A. the cup and saucer", ("the cup", "the cup and saucer"), None),
        ("I", tuple("rstuvwxyz"), 8), ("B", ("only one",), None), ("B", (), None),
        ("He says <think> aloud", ("He says <think> aloud", "x"), None),
    ],
)  # fmt: skip
def test_options_that_mislead(reply: str, options: Sequence[str], expected: int | None) -> None:
    assert choice_of_reply(reply, options) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"), ("<think>x</think>\n\nB ", "B"), ("x</think>B", "B"), ("<think>x", None),
        ("B<think>", None), ("", ""),
        ("a <think>x</think>b", "a b"), ("<think>x</think>", ""), ("1 < 2 > 1", "1 < 2 > 1"),
        ("<thinker>x", "<thinker>x"),
    ],
)  # fmt: skip
def test_thoughts_are_set_aside(reply: str, expected: str | None) -> None:
    assert without_thoughts(reply) == expected


# --- replies of known meaning ----------------------------------------------------------------------

TEXTS = (
    *ACTS, *OPTIONS, "A", "B", "a", "1", "2", "B. a book", "A man", "the answer is A", "not A", "A or B",
    "option B", "no",
    "yes", "none of the above", "a man (A)", "Option A is wrong", "**A**", "It is B", "\"A\"",
    "{\"answer\": \"A\"}", "",
)  # fmt: skip
SAYS = (
    "{0}", "{0}.", "The answer is {0}.", "Answer: {0}", "**Answer:** {0}", "<answer>{0}</answer>",
    "\\boxed{{{0}}}", "**{0}**",
    "It is {0}.", "I choose {0}.", "So, the correct answer is {0}.", "Final answer: {0}",
    "{{\"answer\": \"{0}\"}}",
    "<think>{1}</think>{0}", "{1}\n</think>\n\n{0}", "```\n{0}\n```", "\"{0}\"", "The correct option is {0}",
)  # fmt: skip
EXPLAINS = (  # means one option too, but says more than that
    "{0}, because the pan is hot.", "{0}\n\nExplanation: the pan is hot.", "The pan is hot. The answer is {0}.",
    "Looking at the third row, I see {0}.", "I think that {0} is what happens.", "# Answer\n{0}\nThe pan is hot.",
)  # fmt: skip
CHOICES = (
    "{letter}",
    "({letter})",
    "{letter}. {text}",
    "({letter}) {text}",
    "{letter}: {text}",
    "option {letter}",
)
SAYS_NOTHING = (
    "not {0}", "The answer is not {0}.", "{0} or {1}", "{0} and {1}", "{0}, {1}", "{0}. Wait, {1}",
    "{0}\n{1}", "{0} is wrong",
    "Option {0} is wrong, because of {1}.", "It cannot be {0}.", "I would rule out {0}.",
    "The answer is {0} or {1}.",
    "Neither {0} nor {1}", "{0}? No, {1}", "Maybe {0}", "<think>{0}", "<think>x</think>{0} <think>{1}",
    "{0} {1}", "{0} <think>{1}",
    "The answer is {0}, no, {1}", "<answer>{0}</answer><answer>{1}</answer>", "\\boxed{{{0}}} or {1}",
    "Not {0} but {1}?",
    "{{\"answer\": \"{0}\", \"answer\": \"{1}\"}}", "Between {0} and {1} I cannot decide",
    "Anything except {0}", "{0}/{1}",
)  # fmt: skip
some_options = st.lists(st.sampled_from(TEXTS), min_size=2, max_size=6)


def say(choice: str, index: int, options: Sequence[str]) -> str:
    return choice.format(letter="ABCDEF"[index], text=options[index])


@settings(max_examples=200)
@given(st.data())
def test_no_reply_is_ever_read_as_another_option(data: st.DataObject) -> None:
    options = data.draw(some_options)
    index, other = data.draw(st.permutations(range(len(options))))[:2]
    choice, again = data.draw(st.sampled_from(CHOICES)), data.draw(st.sampled_from(CHOICES))
    first, second = say(choice, index, options), say(again, other, options)
    reply = data.draw(st.sampled_from(SAYS)).format(first, second)
    assert choice_of_reply(reply, options) in (index, None)


def test_a_raised_digit_is_no_digit() -> None:
    assert choice_of_reply("10²", ["102", "100"]) is None
    assert choice_of_reply("10²", ["102", "10²"]) == 1


@settings(max_examples=200)
@given(st.data())
def test_a_reply_that_takes_back_or_doubts_chooses_nothing(data: st.DataObject) -> None:
    options = data.draw(st.lists(st.sampled_from(ACTS + OPTIONS), min_size=2, max_size=6, unique=True))
    index, other = data.draw(st.permutations(range(len(options))))[:2]
    choices = (*CHOICES, "{text}")
    first = say(data.draw(st.sampled_from(choices)), index, options)
    second = say(data.draw(st.sampled_from(choices)), other, options)
    reply = data.draw(st.sampled_from(SAYS_NOTHING)).format(first, second)
    assert choice_of_reply(reply, options) is None


def share_read(ways: Sequence[str]) -> float:
    """Of all ways to say an option, for all options of two sets."""
    read = [
        choice_of_reply(way.format(say(choice, i, options), say(choice, (i + 1) % 5, options)), options)
        for options in (OPTIONS, ACTS)
        for i in range(5)
        for choice in (*CHOICES, "{text}")
        for way in ways
    ]
    print(f"{len(read) - read.count(None)} of {len(read)} replies are read")
    return 1 - read.count(None) / len(read)


def test_the_share_of_replies_that_is_read() -> None:
    assert share_read(SAYS) > 0.99
    assert share_read(EXPLAINS) == 0  # the price of strictness


@given(st.text(max_size=80), st.lists(st.text(max_size=10), max_size=5))
def test_no_reply_breaks_the_reader(reply: str, options: list[str]) -> None:
    choice = choice_of_reply(reply, options)
    assert choice is None or 0 <= choice < len(options)


@pytest.mark.parametrize(
    "piece", ["<think>", "B ", "(", "$", "**", "the ", '"', "\\boxed{", "{", " ", "</think>"]
)
def test_a_long_reply_takes_no_longer_than_it_is(piece: str) -> None:
    begun_s = time.process_time()
    choice_of_reply(piece * 100_000, OPTIONS)
    choice_of_reply("<think>" + piece * 100_000 + "</think>B", OPTIONS)
    assert time.process_time() - begun_s < 2
