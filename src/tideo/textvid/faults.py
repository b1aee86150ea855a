"""Faults of single Tideos: copies, disorder, a frame of another video, doubtful answers, frames without the answers.

Each function takes Tideos and returns a reason for each that is at fault. The thresholds were set on planted faults
(docs/textvid.md). Shapes: N Tideos, T frames, C clauses of a summary, K kinds of caption, O orders of frames, D width.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from tideo import registry
from tideo.textvid.schema import CAPTIONS
from tideo.types import Question, Tideo

Reasons = dict[int, str]  # by the Tideo's index
TextVector = Callable[[str], np.ndarray]  # a text's unit vector [D]
_CLAUSE = re.compile(r"[.;:,]\s+|\s+(?:and )?then\s+")
_WORD = re.compile(r"\w+")
NEAR, SHINGLE, PERMUTATIONS = 0.8, 3, 128  # Jaccard similarity, words, hashes of a sketch


class OptionScorer(Protocol):
    """A language model that scores options after a video in words (textvid/reader.py)."""

    def scores(self, lines: Sequence[str], questions: Sequence[Question]) -> list[list[float]]: ...


def lines_of(tideo: Tideo) -> list[str]:
    """Each frame's captions as one text."""
    return [". ".join(frame.captions) for frame in tideo.frames]


def copies(tideos: Sequence[Tideo]) -> Reasons:
    """Tideos whose frames repeat those of an earlier one, word for word or nearly.

    Nearly means a Jaccard similarity of their three-word runs, estimated by MinHash, above 0.8.
    """
    datasketch = registry.require("datasketch")
    first: dict[tuple[str, ...], int] = {}
    index = datasketch.MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)
    found: Reasons = {}
    for n, tideo in enumerate(tideos):
        words = tuple(_WORD.findall(" ".join(lines_of(tideo)).lower()))
        if words in first:
            found[n] = f"the same frames as {tideos[first[words]].id}"
            continue
        first[words] = n
        runs = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        sketch = datasketch.MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([run.encode() for run in sorted(runs)])
        near = index.query(sketch)
        if near:
            found[n] = f"nearly the same frames as {tideos[min(near)].id}"
        else:
            index.insert(n, sketch)
    return found


def disorder(
    tideos: Sequence[Tideo], vector_of: TextVector, *, least: float = 0.05, orders: int = 300
) -> tuple[Reasons, np.ndarray]:
    """Tideos whose frames are not in the order of the summary, and p of each Tideo.

    p is the share of random orders of the frames that fit the summary at least as well as their own; above `least` it
    is a fault. The fit of an order is the best sum of similarities of clauses to frames in which no later clause takes
    an earlier frame. p is NaN for a Tideo with fewer than three clauses or three frames.
    """
    rng = np.random.default_rng(0)
    p_N = np.array([_disorder(tideo, vector_of, orders=orders, rng=rng) for tideo in tideos])
    reason = "{:.0%} of random orders of its frames fit the summary as well as its own"
    return {n: reason.format(p) for n, p in enumerate(p_N) if p > least}, p_N


def _disorder(tideo: Tideo, vector_of: TextVector, *, orders: int, rng: np.random.Generator) -> float:
    parts, num = clauses(tideo.summary), len(tideo.frames)
    if len(parts) < 3 or num < 3:
        return np.nan
    frames_TD = np.stack([vector_of(frame.main) for frame in tideo.frames])
    similar_CT = np.stack([vector_of(part) for part in parts]) @ frames_TD.T
    similar_CT = similar_CT - similar_CT.mean(axis=0)  # a frame that is near every clause orders nothing
    similar_CT = similar_CT - similar_CT.mean(axis=1, keepdims=True)
    order_OT = np.stack([np.arange(num), *(rng.permutation(num) for _ in range(orders))])
    best_OT = np.zeros(order_OT.shape)  # the best sum of the clauses so far, the last one at frame t
    for similar_T in similar_CT:
        best_OT = np.maximum.accumulate(best_OT, axis=1) + similar_T[order_OT]
    fit_O = best_OT.max(axis=1)
    return float((fit_O[1:] >= fit_O[0]).mean())


def clauses(summary: str) -> list[str]:
    """The clauses of a summary, in its order."""
    return [part.strip() for part in _CLAUSE.split(summary) if len(part.split()) > 1]


def strangers(
    tideos: Sequence[Tideo], vector_of: TextVector, *, least: float = 3.3
) -> tuple[Reasons, np.ndarray]:
    """Tideos with a frame of another video, and how far the oddest frame of each Tideo deviates.

    A caption's deviation is its mean similarity to those of its kind (main, foreground, background) in the Tideo's
    other frames, in standard deviations below the mean of the corpus. A frame's deviation is the sum over its kinds,
    divided by the root of their number; from `least` on it is a fault.
    """
    kinds = [_similar_to_others(tideo, vector_of) for tideo in tideos]
    off_N = np.zeros(len(tideos))
    usual = [_usual(np.concatenate([of[k] for of in kinds])) for k in range(len(CAPTIONS))]
    for n, of in enumerate(kinds):
        z_KT = np.stack([(values - mean) / spread for values, (mean, spread) in zip(of, usual, strict=True)])
        num_kinds_T = np.isfinite(z_KT).sum(axis=0)
        off_N[n] = (-np.nansum(z_KT, axis=0) / np.sqrt(np.maximum(num_kinds_T, 1))).max()
    return {
        n: f"a frame is unlike the others by {x:.1f} deviations" for n, x in enumerate(off_N) if x >= least
    }, off_N


def _usual(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the finite values."""
    known = values[np.isfinite(values)]
    return (float(known.mean()), max(float(known.std()), 1e-6)) if len(known) else (0.0, 1.0)


def _similar_to_others(tideo: Tideo, vector_of: TextVector) -> list[np.ndarray]:
    """By kind of caption, each frame's mean similarity to the other frames [T]; NaN for a frame without that kind."""
    found = []
    for kind in CAPTIONS:
        texts = [getattr(frame, kind) for frame in tideo.frames]
        places = [t for t, text in enumerate(texts) if text]
        similar_T = np.full(len(texts), np.nan)
        if len(places) > 2:
            vectors = np.stack([vector_of(texts[t]) for t in places])
            pairs = vectors @ vectors.T
            similar_T[places] = (pairs.sum(axis=1) - pairs.diagonal()) / (len(places) - 1)
        found.append(similar_T)
    return found


def doubtful(
    tideos: Sequence[Tideo], reader: OptionScorer, *, least: float = 0.5
) -> tuple[dict[tuple[int, int], str], dict[str, float]]:
    """Questions whose marked answer a language model does not find in the frames, by Tideo and question; and measures.

    The model reads the frames and scores another option higher by at least `least` nats a token. The measures, over
    all questions with options: `reading`, the share that it answers as marked, and `blind`, the same without frames.
    """
    found: dict[tuple[int, int], str] = {}
    right = blind = num = 0
    for n, tideo in enumerate(tideos):
        known = [
            (i, q, q.answer) for i, q in enumerate(tideo.questions) if q.answer is not None and q.options
        ]
        questions = [q for _, q, _ in known]
        reading, guessing = reader.scores(lines_of(tideo), questions), reader.scores([], questions)
        for (i, question, answer), scores, blind_scores in zip(known, reading, guessing, strict=True):
            best = int(np.argmax(scores))
            right += best == answer
            blind += int(np.argmax(blind_scores)) == answer
            num += 1
            if scores[best] - scores[answer] >= least:
                better, marked = question.options[best], question.options[answer]
                found[n, i] = f"the frames rather say {better!r} than {marked!r}"
    return found, {"questions": num, "reading": right / max(1, num), "blind": blind / max(1, num)}


def unread(
    tideos: Sequence[Tideo], doubts: Iterable[tuple[int, int]], *, least: float = 0.25, few: int = 2
) -> Reasons:
    """Tideos whose frames cannot be trusted: at least `few` answers, and the share `least` of all, are doubted.

    A single doubt is a fault of its question; several show that the frames are about something else.
    """
    counts = Counter(n for n, _ in doubts)
    totals = {n: sum(q.answer is not None for q in tideos[n].questions) for n in counts}
    return {
        n: f"the frames do not show {count} of {totals[n]} answers"
        for n, count in sorted(counts.items())
        if count >= max(few, least * totals[n])
    }
