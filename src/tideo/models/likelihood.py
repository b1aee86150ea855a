"""Token log-probabilities of several continuations after one shared prefix, for any causal language model.

The published way runs every option as a full padded sequence. Here the prefix is computed once. Its options
follow in the same forward under a tree mask (`packed`), or, where the prefix is long enough for a mask over
it to cost more than a second forward, in one on its key-value cache (`cached`). `expanded` repeats the cache
for a padded batch of options and needs no mask. `full` is the published way with logits only where they are
needed: the reference. speed/scoring.py measures all of them.

Shapes: P prefix tokens, S tokens of one forward, C tokens already in the cache, N options, H hidden width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import DynamicCache

from tideo.types import UserError

LONG_PREFIX = 400  # tokens, from which on `cached` was faster than `packed`; measured at 150 and 676


class OptionScores(NamedTuple):
    """Summed log-likelihood and token count of each option, in the order given."""

    sums: tuple[float, ...]
    counts: tuple[int, ...]


def option_loglikelihoods(
    model: nn.Module,
    *,
    prefix: torch.Tensor,
    options_ids: Sequence[Sequence[int]],
    method: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> OptionScores:
    """Score each option as the continuation of `prefix`: token ids [P] or embeddings [P, H], P at least 1.

    `method` is a name in `METHODS`; None takes the fastest that is exact for this model and length.
    `model_kwargs` go to every forward of the model, unchanged. Raises UserError for an empty option, a
    sequence beyond the model's context, or a method that a sliding window makes inexact.
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
    options_ids: Sequence[Sequence[int]],
    method: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> list[torch.Tensor]:
    """As `option_loglikelihoods`, but per token: one float32 tensor [tokens] for each option."""
    length = _check(model, len(prefix), options_ids)
    name = _choose_method(model, method=method, num_prefix=len(prefix), length=length)
    return METHODS[name](model, embed(model, prefix), options_ids, dict(model_kwargs or {}))


@torch.inference_mode()
def question_loglikelihoods(
    model: nn.Module,
    *,
    prefix: torch.Tensor,
    questions: Sequence[tuple[torch.Tensor, Sequence[Sequence[int]]]],
    model_kwargs: Mapping[str, Any] | None = None,
) -> list[OptionScores]:
    """Score several questions after one shared prefix (the video), which is computed once.

    A question is its stem, token ids [P] or embeddings [P, H] with P at least 1, and its options' token ids.
    Each is one packed forward on the prefix's cache, which is cropped back afterwards: one mask over all
    questions would pay for attention between them.
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
    questions: Sequence[tuple[torch.Tensor, Sequence[Sequence[int]]]],
    offset: int = 0,
    model_kwargs: Mapping[str, Any] | None = None,
) -> list[OptionScores]:
    """As `question_loglikelihoods` after a prefix that is in `cache` already, an image for example.

    `offset` is added to the positions after the cache, for models that give an image fewer positions than tokens.
    Raises UserError also where no mask over the cache would be exact.
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


def _prefill(model: nn.Module, prefix_PH: torch.Tensor, kwargs: dict[str, Any]) -> DynamicCache:
    """The key-value cache of a prefix, under plain causal attention."""
    cache = DynamicCache()
    if len(prefix_PH):
        model(
            inputs_embeds=prefix_PH[None], past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs
        )
    return cache


def _packed(
    model: nn.Module,
    prefix_PH: torch.Tensor,
    options_ids: Sequence[Sequence[int]],
    kwargs: dict[str, Any],
    *,
    cache: DynamicCache | None = None,
    offset: int = 0,
) -> list[torch.Tensor]:
    """One forward over the prefix and all options, each option seeing the prefix and itself."""
    device, num_prefix = prefix_PH.device, len(prefix_PH)
    num_cached = cache.get_seq_length() if cache is not None else 0
    # An option's last token predicts nothing, so it is no input.
    inputs = [torch.tensor(ids[:-1], dtype=torch.long, device=device) for ids in options_ids]
    lengths = [len(ids) for ids in inputs]
    embeds_SH = torch.cat([prefix_PH, embed(model, torch.cat(inputs)).to(prefix_PH.dtype)])
    order_S = torch.arange(len(embeds_SH), device=device)
    positions_S = torch.cat([order_S[:num_prefix], *(num_prefix + order_S[:n] for n in lengths)])
    branches = torch.arange(len(inputs) + 1, device=device)  # 0 is the trunk, the prefix
    branch_S = branches.repeat_interleave(torch.tensor([num_prefix, *lengths], device=device))
    seen_SS = (order_S[:, None] >= order_S) & ((branch_S == 0) | (branch_S[:, None] == branch_S))
    shape = (1, 1, len(order_S), num_cached + len(order_S))
    mask = torch.zeros(shape, dtype=prefix_PH.dtype, device=device)
    mask[..., num_cached:].masked_fill_(~seen_SS, torch.finfo(prefix_PH.dtype).min)
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
        for start, end, ids in zip(ends[:-1], ends[1:], options_ids, strict=True)
        for row, token in zip([0, *range(start, end)], ids, strict=True)
    ]
    return list(_logprobs(logits, places).split([len(ids) for ids in options_ids]))


def _cached(
    model: nn.Module, prefix_PH: torch.Tensor, options_ids: Sequence[Sequence[int]], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """All but the last prefix token into a cache; that one, which predicts, with the options behind it."""
    cache = _prefill(model, prefix_PH[:-1], kwargs)
    return _packed(model, prefix_PH[-1:], options_ids, kwargs, cache=cache)


def _expanded(
    model: nn.Module, prefix_PH: torch.Tensor, options_ids: Sequence[Sequence[int]], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """The prefix once into a cache, then the options as a small padded batch on the repeated cache."""
    cache = DynamicCache()
    first_V = model(
        inputs_embeds=prefix_PH[None], past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs
    ).logits[0, -1]
    firsts = _logprobs(first_V[None], [(0, ids[0]) for ids in options_ids])
    longest = max(len(ids) for ids in options_ids)
    if longest == 1:
        return list(firsts.split(1))
    cache.batch_repeat_interleave(len(options_ids))
    padded = _pad(options_ids, width=longest)[:, :-1].to(prefix_PH.device)
    logits = model(
        inputs_embeds=embed(model, padded),
        position_ids=len(prefix_PH) + torch.arange(longest - 1, device=prefix_PH.device)[None],
        past_key_values=cache,
        use_cache=True,
        **kwargs,
    ).logits
    return [
        torch.cat([firsts[i : i + 1], _logprobs(logits[i], list(enumerate(ids[1:])))])
        for i, ids in enumerate(options_ids)
    ]


def _full(
    model: nn.Module, prefix_PH: torch.Tensor, options_ids: Sequence[Sequence[int]], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """Every option as its own full sequence, padded on the right, where causal attention never looks."""
    padded = _pad(options_ids, width=max(len(ids) for ids in options_ids))[:, :-1].to(prefix_PH.device)
    options_NSH = embed(model, padded).to(prefix_PH.dtype)
    embeds_NSH = torch.cat([prefix_PH.expand(len(padded), -1, -1), options_NSH], dim=1)
    logits = model(
        inputs_embeds=embeds_NSH, use_cache=False, logits_to_keep=padded.shape[1] + 1, **kwargs
    ).logits
    return [_logprobs(logits[i], list(enumerate(ids))) for i, ids in enumerate(options_ids)]


METHODS: dict[str, Callable[..., list[torch.Tensor]]] = {
    "packed": _packed,
    "cached": _cached,
    "expanded": _expanded,
    "full": _full,
}


def _choose_method(model: nn.Module, *, method: str | None, num_prefix: int, length: int) -> str:
    if method is not None and method not in METHODS:
        raise UserError(f"scoring method {method!r} is unknown; expected one of {', '.join(METHODS)}")
    window = sliding_window(model.config.get_text_config())
    if window is not None and length > window:
        # Our mask and our cache know no window; the model's own forward does.
        if method not in (None, "full"):
            raise UserError(
                f"method {method!r}: {length} tokens exceed the sliding window of {window}: use method 'full'"
            )
        return "full"
    if method is None:
        if not _takes_mask(model, length):
            return "expanded"
        return "packed" if num_prefix < LONG_PREFIX else "cached"
    return method


def _takes_mask(model: nn.Module, length: int) -> bool:
    """Whether a [1, 1, S, C + S] mask is exact: not with flash or flex attention, nor beyond a window."""
    config = model.config.get_text_config()
    window = sliding_window(config)
    masked = not config._attn_implementation.startswith(("flash", "flex"))
    return masked and (window is None or length <= window)


def sliding_window(config: Any) -> int | None:
    """The window of a model some of whose layers attend only to the last tokens, else None."""
    layer_types = getattr(config, "layer_types", None)
    if layer_types and "sliding_attention" not in layer_types:
        return None
    return getattr(config, "sliding_window", None)


def _check(model: nn.Module, num_prefix: int, options_ids: Sequence[Sequence[int]]) -> int:
    """The longest sequence asked for, after refusing what cannot be scored."""
    if num_prefix == 0 or not options_ids:
        raise UserError(f"nothing to score: {num_prefix} prefix tokens, {len(options_ids)} options")
    for i, ids in enumerate(options_ids):
        if len(ids) == 0:
            raise UserError(f"option {i + 1} of {len(options_ids)} has no tokens: give it some text")
    longest = num_prefix + max(len(ids) for ids in options_ids)
    check_length(model, longest)
    return longest


def check_length(model: nn.Module, num_tokens: int) -> None:
    """Raises UserError where a sequence would run past the model's context."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and num_tokens > limit:
        raise UserError(f"{num_tokens} tokens exceed the model's context of {limit}: shorten the text")


def _pad(options_ids: Sequence[Sequence[int]], *, width: int) -> torch.Tensor:
    return torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in options_ids], dtype=torch.long)


def _logprobs(logits_SV: torch.Tensor, places: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The float32 log-probability at each (row, token)."""
    rows, tokens = torch.tensor(places, dtype=torch.long, device=logits_SV.device).reshape(-1, 2).T
    logits_SV = logits_SV.float()
    return logits_SV[rows, tokens] - logits_SV.logsumexp(-1)[rows]


def _sum(tokens: Sequence[torch.Tensor]) -> OptionScores:
    return OptionScores(tuple(t.double().sum().item() for t in tokens), tuple(len(t) for t in tokens))
