"""How an option's summed log-likelihood becomes its score."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from tideo.types import Answer, UserError

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
    """The answer with its choice, the best score (the first of equals); unchanged where there is no score."""
    if answer.error is not None or not answer.loglikelihoods:
        return answer
    scored = scores(answer.loglikelihoods, answer.num_tokens, reduction=reduction)
    return replace(answer, choice=max(range(len(scored)), key=scored.__getitem__))


_LETTER = re.compile(r"\(?([A-Z])\)?[.:]?")  # the whole reply
_BEGINS = re.compile(r"(?:\(([A-Z])\)|([A-Z])[.:)])\s+(.+)", re.DOTALL)
_NAMES = re.compile(
    r"\b(?:answer|option|choice)(?:\s+is)?:?\s*(?:\(([A-Z])\)|([A-Z])(?![\w']))", re.IGNORECASE
)


def chosen(reply: str, options: Sequence[str]) -> int | None:
    """The 0-based option that a reply names; None where it names none, or more than one.

    It is named by its letter alone, by its letter before its own text, as in "the answer is B", or by its text alone.
    """
    text = reply.strip().strip("*`").strip()
    if alone := _LETTER.fullmatch(text):
        return _index(alone[1], options)
    same = [i for i, option in enumerate(options) if _plain(option) == _plain(text)]
    if same:
        return same[0] if len(same) == 1 else None
    begins = _BEGINS.match(text)
    if begins:
        index = _index(begins[1] or begins[2], options)
        if index is not None and _plain(begins[3]).startswith(_plain(options[index])):
            return index
    # Case matters for the letter: "the answer is a cup" names nothing.
    named = {a or b for a, b in _NAMES.findall(text) if (a or b).isupper()}
    return _index(named.pop(), options) if len(named) == 1 else None


def _index(letter: str, options: Sequence[str]) -> int | None:
    index = ord(letter) - ord("A")
    return index if index < len(options) else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
