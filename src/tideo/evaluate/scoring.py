"""Log-likelihoods of options → a choice. Needs no model: `Answer` keeps each option's sum and token count."""

from __future__ import annotations

from dataclasses import replace

from tideo.models.reductions import scores
from tideo.types import Answer


def decide(answer: Answer, *, reduction: str) -> Answer:
    """The answer with its choice, the best score (the first of equals); unchanged where there is no score."""
    if answer.error is not None or not answer.loglikelihoods:
        return answer
    scored = scores(answer.loglikelihoods, answer.num_tokens, reduction=reduction)
    return replace(answer, choice=max(range(len(scored)), key=scored.__getitem__))
