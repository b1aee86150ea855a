"""Questions about several videos, scored together by a PrefixLM."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tideo.models.likelihood import OptionScores
from tideo.models.prompts import PromptTokens, encode
from tideo.models.shared_prefix import batch_loglikelihoods
from tideo.models.topa.prefix_lm import PrefixLM, VideoFeatures

Questions = Sequence[tuple[str, Sequence[str]]]  # prompt and options


def question_loglikelihoods(
    lm: PrefixLM, asked: Sequence[tuple[VideoFeatures, Questions]], *, at_once: int = 1
) -> list[list[OptionScores]]:
    """As `PrefixLM.loglikelihoods`, for the questions about each video; `at_once` of them share a forward.

    All videos are computed in one forward before the questions, each once. Where a video's prompts do not begin alike,
    each of its questions is scored by itself.
    """
    asked_tokens = [
        [encode(lm.tokenizer, prompt, continuations=options) for prompt, options in questions]
        for _, questions in asked
    ]
    scores = [
        []
        if _shares(tokens)
        else [lm.loglikelihoods(features, prompt=prompt, options=options) for prompt, options in questions]
        for (features, questions), tokens in zip(asked, asked_tokens, strict=True)
    ]
    together = [i for i, tokens in enumerate(asked_tokens) if tokens and _shares(tokens)]
    if not together:
        return scores
    starts = [
        (asked[i][0], PromptTokens(before=asked_tokens[i][0].before, after=[], continuations=[]))
        for i in together
    ]
    prefixes, kwargs = lm.prefixes(starts)
    questions = [
        [(torch.tensor(t.after, device=lm.device), t.continuations) for t in asked_tokens[i]]
        for i in together
    ]
    found = batch_loglikelihoods(
        lm.llm,
        asked=list(zip(prefixes, questions, strict=True)),
        model_kwargs=kwargs,
        at_once=at_once,
    )
    for i, of_video in zip(together, found, strict=True):
        scores[i] = of_video
    return scores


def _shares(tokens: Sequence[PromptTokens]) -> bool:
    """Whether prompts about one video begin alike up to the video and go on behind it."""
    return all(t.before == tokens[0].before and t.after for t in tokens)
