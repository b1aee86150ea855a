"""Faults planted in good Tideos, to measure what the checker finds and what they cost a training.

    python -m tideo.lab.planted_faults --num 1000 --share 0.2

The command plants each kind of fault in a share of the Tideos of the dollhouse's training split, and prints the
checker's precision and recall.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tideo.dollhouse.export import ask_split, tideo_of
from tideo.encoders.dual import load_encoder
from tideo.encoders.features import text_vectors
from tideo.textvid.faults import clauses, copies, disorder, doubtful, strangers, unread
from tideo.textvid.reader import Reader
from tideo.types import Question, Tideo, UserError

Plant = Callable[[Tideo, Sequence[Tideo], random.Random], Tideo]


def shuffled(tideo: Tideo, others: Sequence[Tideo], rng: random.Random) -> Tideo:
    """The frames are in another order."""
    return replace(tideo, frames=tuple(rng.sample(tideo.frames, len(tideo.frames))))


def with_stranger(tideo: Tideo, others: Sequence[Tideo], rng: random.Random) -> Tideo:
    """One frame is from another Tideo."""
    frames = list(tideo.frames)
    frames[rng.randrange(len(frames))] = rng.choice(rng.choice(others).frames)
    return replace(tideo, frames=tuple(frames))


def wrong_captions(tideo: Tideo, others: Sequence[Tideo], rng: random.Random) -> Tideo:
    """Every second frame is from another Tideo."""
    wrong = rng.choice(others).frames
    frames = [wrong[t % len(wrong)] if t % 2 else frame for t, frame in enumerate(tideo.frames)]
    return replace(tideo, frames=tuple(frames))


def wrong_answers(tideo: Tideo, others: Sequence[Tideo], rng: random.Random) -> Tideo:
    """A wrong option is marked as the answer of every question."""

    def wrong(question: Question) -> Question:
        if question.answer is None:
            return question
        answer = rng.choice([i for i in range(len(question.options)) if i != question.answer])
        return replace(question, answer=answer, open_answer=question.options[answer])

    return replace(tideo, questions=tuple(map(wrong, tideo.questions)))


def copied(tideo: Tideo, others: Sequence[Tideo], rng: random.Random) -> Tideo:
    """The frames are those of another Tideo, with an additional word in one of them."""
    frames = list(rng.choice(others).frames)
    place = rng.randrange(len(frames))
    frames[place] = replace(frames[place], main=f"{frames[place].main} now")
    return replace(tideo, frames=tuple(frames))


KINDS: dict[str, Plant] = {
    "order": shuffled,
    "stranger": with_stranger,
    "captions": wrong_captions,
    "answer": wrong_answers,
    "copy": copied,
}


def planted(
    tideos: Sequence[Tideo], kind: str, *, share: float, seed: int = 0
) -> tuple[list[Tideo], set[int]]:
    """The Tideos with a fault of one kind in a share of them, and the indices of the faulty ones, which come last."""
    if kind not in KINDS or not 0 <= share < 1:
        raise UserError(
            f"a share {share} of the fault {kind!r}: expected 0 to below 1 of one of {', '.join(KINDS)}"
        )
    rng = random.Random(f"{kind}/{seed}")
    num = round(share * len(tideos))
    first = len(tideos) - num
    good = tideos[:first]
    return [*good, *(KINDS[kind](t, good, rng) for t in tideos[first:])], set(range(first, len(tideos)))


def found_of(kind: str, tideos: Sequence[Tideo]) -> set[Any]:
    """The indices of the Tideos in which the checker finds this kind of fault; for answers, (Tideo, question)."""
    if kind == "copy":
        return set(copies(tideos))
    doubts: set[tuple[int, int]] = set()
    if kind in ("answer", "captions"):
        doubts = set(doubtful(tideos, Reader.load("dollhouse-lm"))[0])
    if kind == "answer":
        return doubts
    texts = [c for t in tideos for f in t.frames for c in f.captions]
    texts += [part for t in tideos for part in clauses(t.summary)]
    vector_of = text_vectors(texts, load_encoder("dollhouse-clip"))
    unordered, odd = set(disorder(tideos, vector_of)[0]), set(strangers(tideos, vector_of)[0])
    return {"order": unordered, "stranger": odd, "captions": unordered | odd | set(unread(tideos, doubts))}[
        kind
    ]


def precision_recall(kind: str, tideos: Sequence[Tideo], *, share: float) -> tuple[float, float]:
    """The checker's precision and recall over the Tideos; for answers, over the questions."""
    mixed, places = planted(tideos, kind, share=share)
    faulty: set[Any] = places
    if kind == "answer":
        faulty = {(n, i) for n in places for i, q in enumerate(mixed[n].questions) if q.answer is not None}
    found = found_of(kind, mixed)
    right = len(found & faulty)
    return right / max(1, len(found)), right / max(1, len(faulty))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.2)
    args = parser.parse_args()
    tideos = [tideo_of(a, seed=0) for a in ask_split("train", num=args.num, seed=1) if not a.is_cut]
    print(f"| fault in {args.share:.0%} of {len(tideos)} Tideos | precision | recall |\n|---|---|---|")
    for kind in KINDS:
        precision, recall = precision_recall(kind, tideos, share=args.share)
        print(f"| {kind} | {precision:.2f} | {recall:.2f} |", flush=True)


if __name__ == "__main__":
    main()
