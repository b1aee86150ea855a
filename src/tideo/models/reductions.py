"""How an option's summed log-likelihood becomes its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tideo.types import UserError

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
