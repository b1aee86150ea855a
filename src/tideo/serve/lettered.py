"""A question whose text lists its options by letters, as most clients ask → the question and its options.

Benchmarks write them in the ways of the examples below (lmms-eval's tasks), with a line behind them that asks for the
letter. Read here, the options are scored as those of any other request are, and nothing is left to a model's wording.

    Question: what is she doing?    |   Select the best answer to the following multiple-choice question …
    Options:                        |   what is she doing?
    (A) making tea                  |   A. making tea
    (B) doing the laundry           |   B. doing the laundry
    Only give the best option.      |   The best answer is:
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_AFTER = 300  # characters behind the options; more is a text that goes on, not a request for the letter
_OPTION = re.compile(r"\s*(?P<left>\(?)(?P<letter>[A-Z])(?P<right>[).:])\s+(?P<text>\S.*)")
# Lines of their own. Patterns never look for white space anywhere in a text: of a megabyte of it that takes for ever.
_HEADER = re.compile(r"(?:answer )?(?:options?|choices|candidates)\s*:?", re.IGNORECASE)
_ORDER = re.compile(
    r"(?:please )?(?:select|choose|pick|answer)\b.*(?:multiple.choice|letter|option).*", re.IGNORECASE
)
_LABEL = re.compile(r"\Aquestion\s*:\s*", re.IGNORECASE)


class Lettered(NamedTuple):
    question: str
    options: tuple[str, ...]


def lettered(text: str) -> Lettered | None:
    """The question and its options, at least two and all different, on lines of their own from A on; None without.

    What says how to reply is left out: a first line such as "Select the best answer …", and what is behind the options.
    """
    lines = text.splitlines()
    found: tuple[int, int, tuple[str, ...]] | None = (
        None  # the last list: its first line, the one behind it, options
    )
    first, way, options = 0, ("", ""), list[str]()
    for place, line in enumerate(lines):
        match = _OPTION.fullmatch(line)
        if match is None:
            if line.strip():
                options = []
            continue
        if match["letter"] == "A":
            first, way, options = place, (match["left"], match["right"]), []
        if match["letter"] != chr(ord("A") + len(options)) or (match["left"], match["right"]) != way:
            options = []
            continue
        options.append(match["text"].strip())
        if len(options) > 1:
            found = first, place + 1, tuple(options)
    if found is None:
        return None
    start, end, texts = found
    asked = "\n".join(lines[:start]).strip().split("\n")
    if _HEADER.fullmatch(asked[-1].strip()):
        asked.pop()
    if asked and _ORDER.fullmatch(asked[0].strip()):
        asked.pop(0)
    question = _LABEL.sub("", "\n".join(asked).strip())
    if not question or len(set(texts)) < len(texts) or len("\n".join(lines[end:]).strip()) > MAX_AFTER:
        return None
    return Lettered(question, texts)
