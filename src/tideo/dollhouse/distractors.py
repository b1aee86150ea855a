"""Wrong options and positions without a hint: the text of a question must not give its answer away.

Wrong options come from the same episode first, then from what was equally likely there. Over a whole split each option
is wrong four times as often as it is right, and each position is right equally often.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from tideo.types import Question

NUM_OPTIONS = 5


@dataclass(frozen=True)
class Draft:
    """A question before its wrong options are chosen.

    `key`: the part of the question that a guesser could learn an answer for; options are balanced for each key.
    `text`: the words of an option, given its name.
    """

    question: str
    answer: str
    outside: tuple[str, ...]  # wrong options that were equally likely in this episode
    inside: tuple[str, ...] = ()  # wrong options from the episode itself
    key: str = ""
    evidence_s: tuple[float, float] | None = None
    text: Callable[[str, random.Random], str] = lambda name, rng: name


class Balance:
    """Chooses wrong options and positions such that neither gives the answer away, over all its questions."""

    def __init__(self) -> None:
        self._lack: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._positions: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def question(self, kind: str, draft: Draft, rng: random.Random) -> Question | None:
        """The draft with its five options; None if there are too few wrong ones."""
        lack = self._lack[f"{kind}/{draft.key}"]
        wrong: list[str] = []
        for candidates in (draft.inside, draft.outside):
            fresh = sorted({c for c in candidates if c != draft.answer and c not in wrong})
            rng.shuffle(fresh)
            fresh.sort(key=lambda c: -lack[c])
            wrong += fresh[: NUM_OPTIONS - 1 - len(wrong)]
        if len(wrong) < NUM_OPTIONS - 1:
            return None
        lack[draft.answer] += NUM_OPTIONS - 1
        lack.subtract(wrong)
        used = self._positions[kind]
        least = min(used[i] for i in range(NUM_OPTIONS))
        position = rng.choice([i for i in range(NUM_OPTIONS) if used[i] == least])
        used[position] += 1
        rng.shuffle(wrong)
        names = (*wrong[:position], draft.answer, *wrong[position:])
        options = tuple(draft.text(name, rng) for name in names)
        return Question(
            question=draft.question,
            options=options,
            answer=position,
            open_answer=options[position],
            kind=kind,
            evidence_s=draft.evidence_s,
        )
