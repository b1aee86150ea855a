"""What a model wrote in reply to a question with options → the option it names, or none: never a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
