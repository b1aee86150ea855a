"""Log-likelihoods of the options → a choice: `scores` reduces each option's sum, `decide` takes the `best` score.

A reply in words is read by replies.py. No other file chooses.
"""

from __future__ import annotations

import math
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
    """The answer with its choice; unchanged without likelihoods. As `finite`, a failure where they are no numbers."""
    answer = finite(answer)
    if answer.error is not None or not answer.loglikelihoods:
        return answer
    scored = scores(answer.loglikelihoods, answer.num_tokens, reduction=reduction)
    return replace(answer, choice=best(scored))


def finite(answer: Answer) -> Answer:
    """An answer whose likelihoods overflowed is a failure, not a choice: of NaNs the first would count as the best."""
    if all(map(math.isfinite, answer.loglikelihoods)):
        return answer
    error = (
        f"the log-likelihoods are not finite: {answer.loglikelihoods}; take a larger dtype or other weights"
    )
    return replace(answer, choice=None, loglikelihoods=(), num_tokens=(), error=error)


def best(scored: Sequence[float]) -> int:
    """The option of the highest score, the first of equals."""
    return max(range(len(scored)), key=scored.__getitem__)
