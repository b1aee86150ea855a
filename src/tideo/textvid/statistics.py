"""Measures of a whole set of Tideos: detail, diversity, balance of the answers, overlap with benchmarks.

Shapes: N Tideos, D width.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tideo.encoders.features import sampled
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
MAX_TIDEOS = 2000  # of which the similarities of all pairs are taken
NGRAM = 8


def detail(tideos: Sequence[Tideo]) -> dict[str, float]:
    """Averages a frame: words, objects, attributes, actions, by word lists and endings, for English only."""
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
    """distinct-1 to 3 (Li et al., 2016), the effective number of Tideos, the number of conditions and their evenness.

    The effective number is the Vendi score (Friedman and Dieng, 2023). An evenness of 1 means equally many Tideos of
    each condition.
    """
    words = [_WORD.findall(line.lower()) for tideo in tideos for line in lines_of(tideo)]
    measures: dict[str, float] = {}
    for n in (1, 2, 3):
        grams = Counter(tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1))
        measures[f"distinct_{n}"] = len(grams) / max(1, grams.total())
    some = sampled(tideos, MAX_TIDEOS)
    means_ND = np.stack([np.mean([vector_of(c) for f in t.frames for c in f.captions], axis=0) for t in some])
    means_ND = means_ND - means_ND.mean(axis=0)  # what all have in common makes no two alike
    means_ND /= np.maximum(np.linalg.norm(means_ND, axis=1, keepdims=True), 1e-9)
    values = np.linalg.svd(means_ND / np.sqrt(len(some)), compute_uv=False) ** 2
    values = values[values > 1e-12] / values.sum() if values.sum() > 0 else np.ones(1)
    measures["effective_tideos"] = float(np.exp(-(values * np.log(values)).sum()))
    conditions = Counter(c for t in tideos if (c := t.provenance.get("condition")) is not None)
    if conditions:
        shares = np.array(list(conditions.values())) / conditions.total()
        measures["conditions"] = len(conditions)
        measures["condition_evenness"] = (
            float(-(shares * np.log(shares)).sum() / np.log(len(shares))) if len(shares) > 1 else 1.0
        )
    return measures


def balance(questions: Sequence[Question]) -> dict[str, Any]:
    """Shares of the right answers by letter, and how often a rule that ignores the video finds the right option.

    The rules: the longest option, the shortest, and the one that shares most words with the question. Ties share: of
    two longest options each counts a half. `chance` is the expectation of a random guess.
    """
    known = [(q, q.answer) for q in questions if q.answer is not None and len(q.options) > 1]
    if not known:
        return {}
    letters = Counter(LETTERS[a] if a < len(LETTERS) else "other" for _, a in known)
    return {
        "questions": len(known),
        "chance": float(np.mean([1 / len(q.options) for q, _ in known])),
        "letters": {letter: letters[letter] / len(known) for letter in sorted(letters)},
        "longest_option": float(np.mean([_best_share([len(o) for o in q.options], a) for q, a in known])),
        "shortest_option": float(np.mean([_best_share([-len(o) for o in q.options], a) for q, a in known])),
        "in_question": float(np.mean([_best_share(_shared_words(q), a) for q, a in known])),
    }


def _best_share(scores: Sequence[int], answer: int) -> float:
    """The chance that a guess among the options of the highest score is right."""
    best = max(scores)
    return (scores[answer] == best) / scores.count(best)


def _shared_words(question: Question) -> list[int]:
    """How many words each option shares with the question."""
    words = set(_WORD.findall(question.question.lower()))
    return [len(words & set(_WORD.findall(option.lower()))) for option in question.options]


def overlap(questions: Sequence[Question], others: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """By benchmark: how many questions are also in it, word for word or by a run of eight words."""
    found = {}
    ours = [_WORD.findall(q.question.lower()) for q in questions]
    for name, texts in others.items():
        theirs = [_WORD.findall(text.lower()) for text in texts]
        same = {tuple(words) for words in theirs}
        grams = {tuple(words[i : i + NGRAM]) for words in theirs for i in range(len(words) - NGRAM + 1)}
        runs = [{tuple(w[i : i + NGRAM]) for i in range(len(w) - NGRAM + 1)} for w in ours]
        found[name] = {
            "questions": len(texts),
            "same": sum(tuple(words) in same for words in ours),
            "shared_run": sum(bool(run & grams) for run in runs),
        }
    return found
