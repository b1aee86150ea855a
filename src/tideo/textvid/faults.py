"""What is wrong with single Tideos: copies, disorder, a frame of another video, doubtful answers, frames without them.

Each function takes Tideos and gives, for those that it finds fault with, the reason. The thresholds are set on planted
faults (docs/textvid.md). Shapes: N Tideos, T frames of one, C clauses of its summary, O orders of frames, D width.
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

Reasons = dict[int, str]  # by place
TextVector = Callable[[str], np.ndarray]  # a text's unit vector [D]
_CLAUSE = re.compile(r"[.;:,]\s+|\s+(?:and )?then\s+")
_WORD = re.compile(r"\w+")
NEAR, SHINGLE, PERMUTATIONS = 0.8, 3, 128


class Reads(Protocol):
    """A language model that scores options after a video in words (textvid/reader.py)."""

    def scores(self, lines: Sequence[str], questions: Sequence[Question]) -> list[list[float]]: ...


def lines_of(tideo: Tideo) -> list[str]:
    """Each frame's captions as one text."""
    return [". ".join(frame.captions) for frame in tideo.frames]


def copies(tideos: Sequence[Tideo]) -> Reasons:
    """Tideos whose frames say what those of an earlier one say, word for word or nearly.

    Nearly: Jaccard similarity of their three-word runs, estimated by MinHash, above 0.8.
    """
    datasketch = registry.require("datasketch")
    seen: dict[tuple[str, ...], int] = {}
    index = datasketch.MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)
    found: Reasons = {}
    for n, tideo in enumerate(tideos):
        words = tuple(_WORD.findall(" ".join(lines_of(tideo)).lower()))
        if words in seen:
            found[n] = f"the same frames as {tideos[seen[words]].id}"
            continue
        seen[words] = n
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
    """Tideos whose frames do not come in the order in which the summary tells them, and p of each Tideo.

    p is the share of random orders of the frames that fit the summary as well as their own does; more than `least` is
    a fault. An order fits by the best sum of similarities of clauses to frames, a later clause never to an earlier
    frame. NaN where the summary has fewer than three clauses or there are fewer than three frames.
    """
    rng = np.random.default_rng(0)
    p_N = np.array([_disorder(tideo, vector_of, orders=orders, rng=rng) for tideo in tideos])
    told = "{:.0%} of random orders of its frames fit the summary as well as its own"
    return {n: told.format(p) for n, p in enumerate(p_N) if p > least}, p_N


def _disorder(tideo: Tideo, vector_of: TextVector, *, orders: int, rng: np.random.Generator) -> float:
    parts, num = clauses(tideo.summary), len(tideo.frames)
    if len(parts) < 3 or num < 3:
        return np.nan
    frames_TD = np.stack([vector_of(frame.main) for frame in tideo.frames])
    similar_CT = np.stack([vector_of(part) for part in parts]) @ frames_TD.T
    similar_CT = similar_CT - similar_CT.mean(axis=0)  # a frame that is near to everything tells nothing
    similar_CT = similar_CT - similar_CT.mean(axis=1, keepdims=True)
    order_OT = np.stack([np.arange(num), *(rng.permutation(num) for _ in range(orders))])
    best_OT = np.zeros(order_OT.shape)  # of the clauses so far, the last of them at frame t
    for similar_T in similar_CT:
        best_OT = np.maximum.accumulate(best_OT, axis=1) + similar_T[order_OT]
    fit_O = best_OT.max(axis=1)
    return float((fit_O[1:] >= fit_O[0]).mean())


def clauses(summary: str) -> list[str]:
    """The parts of a summary, in its order."""
    return [part.strip() for part in _CLAUSE.split(summary) if len(part.split()) > 1]


def strangers(
    tideos: Sequence[Tideo], vector_of: TextVector, *, least: float = 3.3
) -> tuple[Reasons, np.ndarray]:
    """Tideos with a frame that does not belong, and for each Tideo how far its oddest frame is off.

    A caption is compared with those of its kind (main, foreground, background) in the Tideo's other frames: its mean
    similarity, in standard deviations below the mean of the corpus. A frame's kinds are added, and divided by the root
    of their number; `least` and more is a fault.
    """
    kinds = [_similar_to_others(tideo, vector_of) for tideo in tideos]
    off_N = np.zeros(len(tideos))
    usual = [_usual(np.concatenate([of[k] for of in kinds])) for k in range(len(CAPTIONS))]
    for n, of in enumerate(kinds):
        z_KT = np.stack([(values - mean) / spread for values, (mean, spread) in zip(of, usual, strict=True)])
        told_T = np.isfinite(z_KT).sum(axis=0)
        off_N[n] = (-np.nansum(z_KT, axis=0) / np.sqrt(np.maximum(told_T, 1))).max()
    return {
        n: f"a frame is unlike the others by {x:.1f} deviations" for n, x in enumerate(off_N) if x >= least
    }, off_N


def _usual(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of what is no NaN."""
    known = values[np.isfinite(values)]
    return (float(known.mean()), max(float(known.std()), 1e-6)) if len(known) else (0.0, 1.0)


def _similar_to_others(tideo: Tideo, vector_of: TextVector) -> list[np.ndarray]:
    """For each kind of caption, the mean similarity of each frame's to the others' [T]; NaN where it has none."""
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
    tideos: Sequence[Tideo], reader: Reads, *, least: float = 0.5
) -> tuple[dict[tuple[int, int], str], dict[str, float]]:
    """Questions, by place of the Tideo and of the question, whose answer a language model does not find in the frames.

    It reads the frames and likes another option better than the marked one by `least` nats a token. Beside them, over
    all questions with options: `reading`, the share that it answers as marked, and `blind`, that without the frames.
    """
    found: dict[tuple[int, int], str] = {}
    right = blind = num = 0
    for n, tideo in enumerate(tideos):
        known = [
            (i, q, q.answer) for i, q in enumerate(tideo.questions) if q.answer is not None and q.options
        ]
        asked = [q for _, q, _ in known]
        read, guessed = reader.scores(lines_of(tideo), asked), reader.scores([], asked)
        for (i, question, answer), scores, without in zip(known, read, guessed, strict=True):
            best = int(np.argmax(scores))
            right += best == answer
            blind += int(np.argmax(without)) == answer
            num += 1
            if scores[best] - scores[answer] >= least:
                rather, marked = question.options[best], question.options[answer]
                found[n, i] = f"the frames rather say {rather!r} than {marked!r}"
    return found, {"questions": num, "reading": right / max(1, num), "blind": blind / max(1, num)}


def unread(
    tideos: Sequence[Tideo], doubts: Iterable[tuple[int, int]], *, least: float = 0.25, few: int = 2
) -> Reasons:
    """Tideos of whose answers `few` and more, and the share `least`, are doubted: their frames are not to be trusted.

    A single doubt is its question's fault; several show frames that tell of something else.
    """
    counts = Counter(n for n, _ in doubts)
    asked = {n: sum(q.answer is not None for q in tideos[n].questions) for n in counts}
    return {
        n: f"the frames do not tell {count} of {asked[n]} answers"
        for n, count in sorted(counts.items())
        if count >= max(few, least * asked[n])
    }
