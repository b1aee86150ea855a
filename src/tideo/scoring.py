"""What a model gives, log-likelihoods of the options or a reply in words → its choice. No other file chooses.

Likelihoods: `scores` reduces each option's sum over its tokens, and `decide` takes the `best` score. A reply:
`choice_of_reply` reads the option that it names, strictly; one that names none is a failure, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from tideo.types import Answer, UserError

# --- log-likelihoods -------------------------------------------------------------------------------

Reduction = Callable[[float, int], float]

# name → how an option's sum over its tokens becomes its score. "mean" is TOPA's, which does not favour short
# options; "sum" is the probability of the option's text.
REDUCTIONS: dict[str, Reduction] = {
    "mean": lambda total, num_tokens: total / num_tokens,
    "sum": lambda total, num_tokens: total,
}


def scores(sums: Sequence[float], num_tokens: Sequence[int], *, reduction: str) -> tuple[float, ...]:
    """Each option's score, higher is better. Raises UserError for an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise UserError(f"unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    return tuple(REDUCTIONS[reduction](s, n) for s, n in zip(sums, num_tokens, strict=True))


def decide(answer: Answer, *, reduction: str) -> Answer:
    """The answer with its choice; unchanged without likelihoods."""
    if answer.error is not None or not answer.loglikelihoods:
        return answer
    scored = scores(answer.loglikelihoods, answer.num_tokens, reduction=reduction)
    return replace(answer, choice=best(scored))


def best(scored: Sequence[float]) -> int:
    """The option of the highest score, the first of equals."""
    return max(range(len(scored)), key=scored.__getitem__)


# --- a reply in words ------------------------------------------------------------------------------

_ONLY_LETTER = re.compile(r"\(?([A-Z])\)?[.:]?")  # the whole reply
_LETTER_FIRST = re.compile(r"(?:\(([A-Z])\)|([A-Z])[.:)])\s+(.+)", re.DOTALL)
_SENTENCE = re.compile(
    r"\b(?:answer|option|choice)(?:\s+is)?:?\s*(?:\(([A-Z])\)|([A-Z])(?![\w']))", re.IGNORECASE
)


def choice_of_reply(reply: str, options: Sequence[str]) -> int | None:
    """The 0-based option that a reply names; None if it names none, or more than one.

    It is named by its letter alone, by its letter before its own text, as in "the answer is B", or by its text alone.
    """
    text = reply.strip().strip("*`").strip()
    if alone := _ONLY_LETTER.fullmatch(text):
        return _index(alone[1], options)
    same = [i for i, option in enumerate(options) if _plain(option) == _plain(text)]
    if same:
        return same[0] if len(same) == 1 else None
    first = _LETTER_FIRST.match(text)
    if first:
        index = _index(first[1] or first[2], options)
        if index is not None and _plain(first[3]).startswith(_plain(options[index])):
            return index
    # Case matters for the letter: "the answer is a cup" names nothing.
    named = {a or b for a, b in _SENTENCE.findall(text) if (a or b).isupper()}
    return _index(named.pop(), options) if len(named) == 1 else None


def _index(letter: str, options: Sequence[str]) -> int | None:
    index = ord(letter) - ord("A")
    return index if index < len(options) else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
