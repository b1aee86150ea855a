"""Token log-probabilities of several continuations after one shared prefix, for any causal language model.

`full`, the published way and the reference, runs every option as a padded sequence of its own. The others compute
the prefix once: `packed` runs the options in the same forward under a tree mask, `cached` in a second forward on the
prefix's key-value cache, which pays for a long prefix because the mask leaves it out. `expanded` repeats the cache
for a padded batch of options and needs no mask. speed/scoring.py measures all of them.

Shapes: P prefix tokens, S tokens of one forward, C cached tokens, N options, H hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import DynamicCache

from tideo.types import UserError

LONG_PREFIX = 400  # tokens; `cached` was slower than `packed` at 150 and faster at 676
TokenIds = Sequence[Sequence[int]]  # of each option
TokenScores = list[torch.Tensor]  # of each option: float32 log-probabilities [tokens]
Kwargs = Mapping[str, Any]  # of the model's forward


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
    questions: Sequence[tuple[torch.Tensor, TokenIds]],
    model_kwargs: Kwargs | None = None,
) -> list[OptionScores]:
    """Score several questions after one shared prefix (the video), which is computed once.

    A question is its stem (token ids [P] or embeddings [P, H], P at least 1) and its options' token ids.
    Each question is one packed forward on the prefix's cache, which is cropped back afterwards: a single mask
    over all questions would pay for attention between them.
    """
    kwargs, prefix_PH = dict(model_kwargs or {}), embed(model, prefix)
    lengths = [_check(model, len(prefix) + len(stem), options) for stem, options in questions]
    if not all(_takes_mask(model, length) for length in lengths):
        wholes = [torch.cat([prefix_PH, embed(model, stem)]) for stem, _ in questions]
        return [
            option_loglikelihoods(model, prefix=whole_PH, options_ids=options, model_kwargs=kwargs)
            for whole_PH, (_, options) in zip(wholes, questions, strict=True)
        ]
    cache = _prefill(model, prefix_PH, kwargs)
    return cached_loglikelihoods(model, cache=cache, questions=questions, model_kwargs=kwargs)


@torch.inference_mode()
def cached_loglikelihoods(
    model: nn.Module,
    *,
    cache: DynamicCache,
    questions: Sequence[tuple[torch.Tensor, TokenIds]],
    offset: int = 0,
    model_kwargs: Kwargs | None = None,
) -> list[OptionScores]:
    """As `question_loglikelihoods`, after a prefix that is already in `cache`, for example an image.

    `offset` is added to the positions after the cache: some models give an image fewer positions than tokens.
    Raises UserError also where no mask over the cache is exact.
    """
    kwargs, num_cached, scores = dict(model_kwargs or {}), cache.get_seq_length(), []
    for stem, options in questions:
        length = _check(model, num_cached + len(stem), options)
        if not _takes_mask(model, length):
            raise UserError(
                f"{length} tokens cannot be scored on a cache by this model: its attention is flash or flex, or slides "
                "over fewer; load it with attn_implementation='sdpa', or show it a smaller image"
            )
        scores.append(_sum(_packed(model, embed(model, stem), options, kwargs, cache=cache, offset=offset)))
        cache.crop(num_cached - cache.get_seq_length())  # negative: how many tokens to drop
    return scores


def embed(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids [...] to embeddings [..., H]; embeddings pass through."""
    if tokens.is_floating_point():
        return tokens
    table = model.get_input_embeddings()
    embeds: torch.Tensor = table(tokens.to(table.weight.device))
    return embeds


def _prefill(model: nn.Module, prefix_PH: torch.Tensor, kwargs: Kwargs) -> DynamicCache:
    """The key-value cache of a prefix under plain causal attention."""
    cache = DynamicCache()
    if len(prefix_PH):
        model(
            inputs_embeds=prefix_PH[None], past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs
        )
    return cache


def _packed(
    model: nn.Module,
    prefix_PH: torch.Tensor,
    options: TokenIds,
    kwargs: Kwargs,
    *,
    cache: DynamicCache | None = None,
    offset: int = 0,
) -> TokenScores:
    """One forward over the prefix and all options; each option attends to the prefix and itself."""
    device, num_prefix = prefix_PH.device, len(prefix_PH)
    num_cached = cache.get_seq_length() if cache is not None else 0
    # An option's last token predicts nothing, so it is no input.
    inputs = [torch.tensor(ids[:-1], dtype=torch.long, device=device) for ids in options]
    lengths = [len(ids) for ids in inputs]
    embeds_SH = torch.cat([prefix_PH, embed(model, torch.cat(inputs)).to(prefix_PH.dtype)])
    order_S = torch.arange(len(embeds_SH), device=device)
    positions_S = torch.cat([order_S[:num_prefix], *(num_prefix + order_S[:n] for n in lengths)])
    branches = torch.arange(len(inputs) + 1, device=device)  # 0 is the trunk, the prefix
    branch_S = branches.repeat_interleave(torch.tensor([num_prefix, *lengths], device=device))
    visible_SS = (order_S[:, None] >= order_S) & ((branch_S == 0) | (branch_S[:, None] == branch_S))
    shape = (1, 1, len(order_S), num_cached + len(order_S))
    mask = torch.zeros(shape, dtype=prefix_PH.dtype, device=device)
    mask[..., num_cached:].masked_fill_(~visible_SS, torch.finfo(prefix_PH.dtype).min)
    logits = model(
        inputs_embeds=embeds_SH[None],
        attention_mask=mask,
        position_ids=(num_cached + offset + positions_S)[None],
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=order_S[num_prefix - 1 :],
        **kwargs,
    ).logits[0]
    # Row 0, the prefix's last token, predicts the first token of every option.
    ends = list(accumulate(lengths, initial=1))
    places = [
        (row, token)
        for start, end, ids in zip(ends[:-1], ends[1:], options, strict=True)
        for row, token in zip([0, *range(start, end)], ids, strict=True)
    ]
    return list(_logprobs(logits, places).split([len(ids) for ids in options]))


def _cached(model: nn.Module, prefix_PH: torch.Tensor, options: TokenIds, kwargs: Kwargs) -> TokenScores:
    """The prefix without its last token fills a cache; that token, which predicts, runs with the options."""
    cache = _prefill(model, prefix_PH[:-1], kwargs)
    return _packed(model, prefix_PH[-1:], options, kwargs, cache=cache)


def _expanded(model: nn.Module, prefix_PH: torch.Tensor, options: TokenIds, kwargs: Kwargs) -> TokenScores:
    """The prefix fills a cache; the options run as a small padded batch on the repeated cache."""
    cache = DynamicCache()
    first_V = model(
        inputs_embeds=prefix_PH[None], past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs
    ).logits[0, -1]
    firsts = _logprobs(first_V[None], [(0, ids[0]) for ids in options])
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
        torch.cat([firsts[i : i + 1], _logprobs(logits[i], list(enumerate(ids[1:])))])
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
    return [_logprobs(logits[i], list(enumerate(ids))) for i, ids in enumerate(options)]


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
    attention: str = model.config.get_text_config()._attn_implementation
    return not attention.startswith(("flash", "flex")) and length <= _window(model)


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


def _logprobs(logits_SV: torch.Tensor, places: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The float32 log-probability at each (row, token)."""
    rows, tokens = torch.tensor(places, dtype=torch.long, device=logits_SV.device).reshape(-1, 2).T
    logits_SV = logits_SV.float()
    return logits_SV[rows, tokens] - logits_SV.logsumexp(-1)[rows]


def _sum(tokens: Sequence[torch.Tensor]) -> OptionScores:
    return OptionScores(tuple(t.double().sum().item() for t in tokens), tuple(len(t) for t in tokens))
