"""Token log-probabilities of several continuations after one shared prefix, for any causal language model.

`full`, the published way and the reference, runs every option as a padded sequence of its own. The others compute
the prefix once: `packed` runs the options in the same forward under a tree mask, `cached` in a second forward on the
prefix's key-value cache, which pays for a long prefix because the mask leaves it out. `expanded` repeats the cache
for a padded batch of options and needs no mask. speed/scoring.py measures all of them.

Shapes: P prefix tokens, S tokens of one forward, C cached tokens, N options, H hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import DynamicCache

from tideo.models.packed import (
    Kwargs,
    Row,
    TokenIds,
    TokenScores,
    embed,
    logprobs,
    packed,
    prefilled,
    selected,
)
from tideo.types import UserError

LONG_PREFIX = 400  # tokens; `cached` was slower than `packed` at 150 and faster at 676
Question = tuple[torch.Tensor, TokenIds]  # its stem, token ids [P] or embeddings [P, H], and its options


class OptionScores(NamedTuple):
    """Summed log-likelihood and token count of each option, in the order given."""

    sums: tuple[float, ...]
    counts: tuple[int, ...]


def option_loglikelihoods(
    model: nn.Module,
    *,
    prefix: torch.Tensor,
    options_ids: TokenIds,
    method: str | None = None,
    model_kwargs: Kwargs | None = None,
) -> OptionScores:
    """Score each option as the continuation of `prefix`: token ids [P] or embeddings [P, H], P at least 1.

    `method` is a name in `METHODS`; None takes the fastest one that is exact for this model and length.
    `model_kwargs` go to every forward of the model. Raises UserError for an empty option, a sequence beyond
    the model's context, or a method that a sliding window makes inexact.
    """
    tokens = token_loglikelihoods(
        model, prefix=prefix, options_ids=options_ids, method=method, model_kwargs=model_kwargs
    )
    return _sum(tokens)


@torch.inference_mode()
def token_loglikelihoods(
    model: nn.Module,
    *,
    prefix: torch.Tensor,
    options_ids: TokenIds,
    method: str | None = None,
    model_kwargs: Kwargs | None = None,
) -> TokenScores:
    """As `option_loglikelihoods`, but per token."""
    length = _check(model, len(prefix), options_ids)
    name = _choose_method(model, method=method, num_prefix=len(prefix), length=length)
    return METHODS[name](model, embed(model, prefix), options_ids, dict(model_kwargs or {}))


@torch.inference_mode()
def question_loglikelihoods(
    model: nn.Module,
    *,
    prefix: torch.Tensor,
    questions: Sequence[Question],
    model_kwargs: Kwargs | None = None,
) -> list[OptionScores]:
    """Score several questions after one shared prefix (the video), which is computed once.

    Each question is one packed forward on the prefix's cache, which is cropped back afterwards: a single mask
    over all questions would pay for attention between them.
    """
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
    """As `question_loglikelihoods` for several prefixes: one forward for all of them, then `at_once` questions a forward.

    `model_kwargs` gives those of a forward whose rows are these prefixes. Of a model without masks (flash and flex
    attention, longer than a sliding window) every question is scored by itself.
    """
    lengths = [
        _check(model, len(prefix) + len(stem), options)
        for prefix, questions in asked
        for stem, options in questions
    ]
    prefixes = [embed(model, prefix) for prefix, _ in asked]
    if not all(_takes_mask(model, length) for length in lengths):
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
    models give an image fewer positions than tokens. Raises UserError also where no mask over the cache is exact.
    """
    where, rows = [], []
    for p, (own, questions) in enumerate(zip(num_cached, asked, strict=True)):
        for stem, options in questions:
            if not _takes_mask(model, length := _check(model, own + len(stem), options)):
                raise UserError(
                    f"{length} tokens cannot be scored on a cache by this model: its attention is flash or flex, or "
                    "slides over fewer; load it with attn_implementation='sdpa', or show it a smaller image"
                )
            where.append(p)
            rows.append(
                Row(
                    embed(model, stem), options, position=own + (offsets[p] if offsets else 0), num_cached=own
                )
            )
    scores = iter(
        _sum(tokens)
        for chunk in _even(len(rows), at_once)
        for tokens in _on_cache(model, rows[chunk], where[chunk], cache, model_kwargs)
    )
    return [[next(scores) for _ in questions] for questions in asked]


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
    return [slice(start, end) for start, end in zip(edges, edges[1:], strict=False)]


def _packed(model: nn.Module, prefix_PH: torch.Tensor, options: TokenIds, kwargs: Kwargs) -> TokenScores:
    """One forward over the prefix and all options; each option attends to the prefix and itself."""
    (scores,) = packed(model, [Row(prefix_PH, options)], kwargs)
    return scores


def _cached(model: nn.Module, prefix_PH: torch.Tensor, options: TokenIds, kwargs: Kwargs) -> TokenScores:
    """The prefix without its last token fills a cache; that token, which predicts, runs with the options."""
    cache, num_cached = prefilled(model, [prefix_PH[:-1]], kwargs), len(prefix_PH) - 1
    row = Row(prefix_PH[-1:], options, position=num_cached, num_cached=num_cached)
    (scores,) = packed(model, [row], kwargs, cache=cache)
    return scores


def _expanded(model: nn.Module, prefix_PH: torch.Tensor, options: TokenIds, kwargs: Kwargs) -> TokenScores:
    """The prefix fills a cache; the options run as a small padded batch on the repeated cache."""
    cache = DynamicCache()
    first_V = model(
        inputs_embeds=prefix_PH[None], past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs
    ).logits[0, -1]
    firsts = logprobs(first_V[None], [(0, ids[0]) for ids in options])
    padded = _padded_inputs(options, device=prefix_PH.device)
    if not padded.shape[1]:
        return list(firsts.split(1))
    cache.batch_repeat_interleave(len(options))
    logits = model(
        inputs_embeds=embed(model, padded),
        position_ids=len(prefix_PH) + torch.arange(padded.shape[1], device=prefix_PH.device)[None],
        past_key_values=cache,
        use_cache=True,
        **kwargs,
    ).logits
    return [
        torch.cat([firsts[i : i + 1], logprobs(logits[i], list(enumerate(ids[1:])))])
        for i, ids in enumerate(options)
    ]


def _full(model: nn.Module, prefix_PH: torch.Tensor, options: TokenIds, kwargs: Kwargs) -> TokenScores:
    """Every option is a full sequence, padded on the right, where causal attention never looks."""
    padded = _padded_inputs(options, device=prefix_PH.device)
    options_NSH = embed(model, padded).to(prefix_PH.dtype)
    embeds_NSH = torch.cat([prefix_PH.expand(len(padded), -1, -1), options_NSH], dim=1)
    logits = model(
        inputs_embeds=embeds_NSH, use_cache=False, logits_to_keep=padded.shape[1] + 1, **kwargs
    ).logits
    return [logprobs(logits[i], list(enumerate(ids))) for i, ids in enumerate(options)]


METHODS: dict[str, Callable[..., TokenScores]] = {
    "packed": _packed,
    "cached": _cached,
    "expanded": _expanded,
    "full": _full,
}


def _choose_method(model: nn.Module, *, method: str | None, num_prefix: int, length: int) -> str:
    if method is not None and method not in METHODS:
        raise UserError(f"scoring method {method!r} is unknown; expected one of {', '.join(METHODS)}")
    if length > (window := _window(model)):
        # The masks and caches of this module ignore a window; the model's own forward respects it.
        if method not in (None, "full"):
            raise UserError(
                f"method {method!r}: {length} tokens exceed the sliding window of {window:.0f}: use method 'full'"
            )
        return "full"
    if method is None and not _takes_mask(model, length):
        return "expanded"
    return method or ("packed" if num_prefix < LONG_PREFIX else "cached")


def _takes_mask(model: nn.Module, length: int) -> bool:
    """Whether a [1, 1, S, C + S] mask is exact: neither with flash or flex attention nor beyond a window."""
    return one_by_one(model) is None and length <= _window(model)


def one_by_one(model: nn.Module) -> str | None:
    """Why no two questions can share a forward pass of this model; None if they can."""
    attention: str = model.config.get_text_config()._attn_implementation
    return f"{attention} takes no mask" if attention.startswith(("flash", "flex")) else None


def _window(model: nn.Module) -> float:
    """How many last tokens some layers of the model attend to; infinity where all of them attend to all tokens."""
    config = model.config.get_text_config()
    layer_types, window = getattr(config, "layer_types", None), getattr(config, "sliding_window", None)
    if window is None or (layer_types and "sliding_attention" not in layer_types):
        return math.inf
    return float(window)


def _check(model: nn.Module, num_prefix: int, options_ids: TokenIds) -> int:
    """The length of the longest sequence. Raises UserError for what cannot be scored."""
    if num_prefix == 0 or not options_ids:
        raise UserError(f"nothing to score: {num_prefix} prefix tokens, {len(options_ids)} options")
    if empty := [i for i, ids in enumerate(options_ids, start=1) if not len(ids)]:
        raise UserError(f"option {empty[0]} of {len(options_ids)} has no tokens: give it some text")
    longest = num_prefix + max(len(ids) for ids in options_ids)
    check_length(model, longest)
    return longest


def check_length(model: nn.Module, num_tokens: int) -> None:
    """Raise UserError for a sequence that is longer than the model's context."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and num_tokens > limit:
        raise UserError(f"{num_tokens} tokens exceed the model's context of {limit}: shorten the text")


def _padded_inputs(options_ids: TokenIds, *, device: torch.device) -> torch.Tensor:
    """The options as rows of one length, without the last position, which predicts nothing."""
    longest = max(map(len, options_ids))
    rows = [[*ids, *[0] * (longest - len(ids))][:-1] for ids in options_ids]
    return torch.tensor(rows, dtype=torch.long, device=device)


def _sum(tokens: Sequence[torch.Tensor]) -> OptionScores:
    return OptionScores(tuple(t.double().sum().item() for t in tokens), tuple(len(t) for t in tokens))
