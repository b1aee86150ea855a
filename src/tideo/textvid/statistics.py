"""What a set of Tideos is like as a whole: detail, diversity, balance of its answers, what they give away, overlap.

Shapes: N Tideos, D width.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tideo.textvid.faults import TextVector, lines_of
from tideo.textvid.schema import LETTERS
from tideo.types import Question, Tideo

_WORD = re.compile(r"\w+")
_THING = re.compile(
    r"\b(?:a|an|the|his|her|its|their|two|three|four|five|six|some)\s+((?:\w+\s+){0,2}?\w+)\b"
)
_DOING = re.compile(r"\b\w{2,}ing\b")
_ATTRIBUTE = re.compile(
    r"\b(?:red|blue|green|yellow|black|white|brown|grey|gray|orange|pink|purple|golden|silver|striped|checked|"
    r"small|large|big|tall|short|long|round|wooden|metal|glass|plastic|old|young|new|empty|full|wet|dry|"
    r"one|two|three|four|five|six|seven|eight|nine|ten)\b"
)
MOST = 2000  # Tideos that the similarities of all pairs are taken of
NGRAM = 8


def detail(tideos: Sequence[Tideo]) -> dict[str, float]:
    """Per frame, on average: words, things named, attributes, actions. By word lists and endings, of English only."""
    frames = [line.lower() for tideo in tideos for line in lines_of(tideo)]
    if not frames:
        return {}
    return {
        "words": float(np.mean([len(_WORD.findall(f)) for f in frames])),
        "objects": float(np.mean([len(set(_THING.findall(f))) for f in frames])),
        "attributes": float(np.mean([len(_ATTRIBUTE.findall(f)) for f in frames])),
        "actions": float(np.mean([len(set(_DOING.findall(f))) for f in frames])),
        "captions": float(np.mean([len(f.captions) for t in tideos for f in t.frames])),
        "frames": float(np.mean([len(t.frames) for t in tideos])),
    }


def diversity(tideos: Sequence[Tideo], vector_of: TextVector) -> dict[str, float]:
    """distinct-1 to 3 (Li et al., 2016); the effective number of Tideos (Vendi score, Friedman and Dieng, 2023); the
    conditions that were used, and how evenly (1: all alike)."""
    words = [_WORD.findall(line.lower()) for tideo in tideos for line in lines_of(tideo)]
    told: dict[str, float] = {}
    for n in (1, 2, 3):
        grams = Counter(tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1))
        told[f"distinct_{n}"] = len(grams) / max(1, grams.total())
    some = tideos if len(tideos) <= MOST else [tideos[i * len(tideos) // MOST] for i in range(MOST)]
    means_ND = np.stack([np.mean([vector_of(c) for f in t.frames for c in f.captions], axis=0) for t in some])
    means_ND = means_ND - means_ND.mean(axis=0)  # what all share is no likeness
    means_ND /= np.maximum(np.linalg.norm(means_ND, axis=1, keepdims=True), 1e-9)
    values = np.linalg.svd(means_ND / np.sqrt(len(some)), compute_uv=False) ** 2
    values = values[values > 1e-12] / values.sum() if values.sum() > 0 else np.ones(1)
    told["effective_tideos"] = float(np.exp(-(values * np.log(values)).sum()))
    conditions = Counter(c for t in tideos if (c := t.provenance.get("condition")) is not None)
    if conditions:
        shares = np.array(list(conditions.values())) / conditions.total()
        told["conditions"] = len(conditions)
        told["condition_evenness"] = (
            float(-(shares * np.log(shares)).sum() / np.log(len(shares))) if len(shares) > 1 else 1.0
        )
    return told


def balance(questions: Sequence[Question]) -> dict[str, Any]:
    """Shares of the right answers by letter, and how often the longest or the shortest option is the right one.

    Equals share: of two longest options each counts a half. `chance` is what a guess among the options would get.
    """
    known = [(q, q.answer) for q in questions if q.answer is not None and len(q.options) > 1]
    if not known:
        return {}
    letters = Counter(LETTERS[a] if a < len(LETTERS) else "other" for _, a in known)
    return {
        "questions": len(known),
        "chance": float(np.mean([1 / len(q.options) for q, _ in known])),
        "letters": {letter: letters[letter] / len(known) for letter in sorted(letters)},
        "longest_option": float(np.mean([_rule(q, a, sign=1) for q, a in known])),
        "shortest_option": float(np.mean([_rule(q, a, sign=-1) for q, a in known])),
        "in_question": float(np.mean([_named(q, a) for q, a in known])),
    }


def _rule(question: Question, answer: int, *, sign: int) -> float:
    lengths = [sign * len(option) for option in question.options]
    best = max(lengths)
    return (lengths[answer] == best) / lengths.count(best)


def _named(question: Question, answer: int) -> float:
    """Right by the rule: the option that shares most words with the question."""
    words = set(_WORD.findall(question.question.lower()))
    shared = [len(words & set(_WORD.findall(option.lower()))) for option in question.options]
    return (shared[answer] == max(shared)) / shared.count(max(shared))


def overlap(questions: Sequence[Question], others: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """By name of a benchmark: how many questions are also its own, word for word or by a run of eight words."""
    told = {}
    ours = [_WORD.findall(q.question.lower()) for q in questions]
    for name, texts in others.items():
        theirs = [_WORD.findall(text.lower()) for text in texts]
        same = {tuple(words) for words in theirs}
        grams = {tuple(words[i : i + NGRAM]) for words in theirs for i in range(len(words) - NGRAM + 1)}
        runs = [{tuple(w[i : i + NGRAM]) for i in range(len(w) - NGRAM + 1)} for w in ours]
        told[name] = {
            "questions": len(texts),
            "same": sum(tuple(words) in same for words in ours),
            "shared_run": sum(bool(run & grams) for run in runs),
        }
    return told
