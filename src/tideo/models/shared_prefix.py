"""Questions after shared prefixes, such as videos: each prefix is computed once, and all of them in one forward.

A question is one packed row on its prefix's cache: one mask over all questions about a video would pay for attention
between them. Rows of different videos share a forward (models/packed.py).

Shapes: P tokens, H hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn
from transformers import DynamicCache

from tideo.models.likelihood import (
    OptionScores,
    check_options,
    expanded,
    option_loglikelihoods,
    summed,
    takes_mask,
)
from tideo.models.packed import Kwargs, Row, TokenIds, TokenScores, embed, packed, prefilled, selected

Question = tuple[torch.Tensor, TokenIds]  # its stem, token ids [P] or embeddings [P, H], and its options


@torch.inference_mode()
def question_loglikelihoods(
    model: nn.Module,
    *,
    prefix: torch.Tensor,
    questions: Sequence[Question],
    model_kwargs: Kwargs | None = None,
) -> list[OptionScores]:
    """Score several questions after one shared prefix, one question a forward."""
    kwargs = dict(model_kwargs or {})
    (scores,) = batch_loglikelihoods(model, asked=[(prefix, questions)], model_kwargs=lambda _: kwargs)
    return scores


@torch.inference_mode()
def batch_loglikelihoods(
    model: nn.Module,
    *,
    asked: Sequence[tuple[torch.Tensor, Sequence[Question]]],
    model_kwargs: Callable[[Sequence[int]], Kwargs],
    at_once: int = 1,
) -> list[list[OptionScores]]:
    """As `question_loglikelihoods`: all prefixes in one forward, then `at_once` questions in each.

    `model_kwargs` gives those of a forward whose rows are these prefixes. Of a model without masks (flash and flex
    attention, longer than a sliding window) every question is scored by itself.
    """
    lengths = [
        check_options(model, len(prefix) + len(stem), options)
        for prefix, questions in asked
        for stem, options in questions
    ]
    prefixes = [embed(model, prefix) for prefix, _ in asked]
    if not all(takes_mask(model, length) for length in lengths):
        return [
            [
                option_loglikelihoods(
                    model,
                    prefix=torch.cat([prefix_PH, embed(model, stem)]),
                    options_ids=options,
                    model_kwargs=model_kwargs([p]),
                )
                for stem, options in questions
            ]
            for p, (prefix_PH, (_, questions)) in enumerate(zip(prefixes, asked, strict=True))
        ]
    cache = prefilled(model, prefixes, model_kwargs(range(len(asked))))
    return cached_loglikelihoods(
        model,
        cache=cache,
        num_cached=[len(prefix_PH) for prefix_PH in prefixes],
        asked=[questions for _, questions in asked],
        model_kwargs=model_kwargs,
        at_once=at_once,
    )


@torch.inference_mode()
def cached_loglikelihoods(
    model: nn.Module,
    *,
    cache: DynamicCache,
    num_cached: Sequence[int],
    asked: Sequence[Sequence[Question]],
    offsets: Sequence[int] | None = None,
    model_kwargs: Callable[[Sequence[int]], Kwargs] = lambda _: {},
    at_once: int = 1,
) -> list[list[OptionScores]]:
    """As `batch_loglikelihoods`, after prefixes that are already the rows of `cache`, for example images.

    `num_cached`: the tokens of each row before its padding. `offsets` are added to the positions after the cache: some
    models give an image fewer positions than tokens. Without masks each question continues a copy of its own row.
    """
    where, rows, masked = [], [], True
    for p, (own, questions) in enumerate(zip(num_cached, asked, strict=True)):
        for stem, options in questions:
            masked &= takes_mask(model, check_options(model, own + len(stem), options))
            where.append(p)
            rows.append(
                Row(
                    embed(model, stem), options, position=own + (offsets[p] if offsets else 0), num_cached=own
                )
            )
    if masked:
        chunks = _even(len(rows), at_once)
        tokens = [of for c in chunks for of in _on_cache(model, rows[c], where[c], cache, model_kwargs)]
    else:
        own_caches = (_own(cache, p, row.num_cached) for p, row in zip(where, rows, strict=True))
        tokens = [
            expanded(model, row, model_kwargs([p]), cache=own_cache)
            for p, row, own_cache in zip(where, rows, own_caches, strict=True)
        ]
    scores = map(summed, tokens)
    return [[next(scores) for _ in questions] for questions in asked]


def _own(cache: DynamicCache, row: int, num: int) -> DynamicCache:
    """A copy of one row of a cache without its padding."""
    copy = selected(cache, [row])
    if padding := copy.get_seq_length() - num:
        copy.crop(-padding)
    return copy


def _on_cache(
    model: nn.Module,
    rows: Sequence[Row],
    where: Sequence[int],
    cache: DynamicCache,
    model_kwargs: Callable[[Sequence[int]], Kwargs],
) -> list[TokenScores]:
    """The rows after the prefixes `where` of the cache, which is left as it was."""
    num = cache.get_seq_length()
    if not num:
        return packed(model, rows, model_kwargs(where), cache=DynamicCache())
    if list(where) == list(range(len(cache.layers[0].keys))):
        scores = packed(model, rows, model_kwargs(where), cache=cache)
        cache.crop(num - cache.get_seq_length())  # negative: how many tokens to drop
        return scores
    return packed(model, rows, model_kwargs(where), cache=selected(cache, where))


def _even(num: int, most: int) -> list[slice]:
    """`num` items in as few parts as `most` items a part allow, of almost equal size."""
    parts = -(-num // max(1, most))
    edges = [i * num // parts for i in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(edges)]
