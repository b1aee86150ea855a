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
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import DynamicCache

from tideo.models.batching import unmasked
from tideo.models.packed import (
    Kwargs,
    Row,
    TokenIds,
    TokenScores,
    embed,
    logprobs,
    packed,
    prefilled,
)
from tideo.types import UserError

LONG_PREFIX = 400  # tokens; `cached` was slower than `packed` at 150 and faster at 676


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
    return summed(tokens)


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
    length = check_options(model, len(prefix), options_ids)
    name = _choose_method(model, method=method, num_prefix=len(prefix), length=length)
    return METHODS[name](model, embed(model, prefix), options_ids, dict(model_kwargs or {}))


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
    return expanded(model, Row(prefix_PH, options), kwargs, cache=DynamicCache())


def expanded(model: nn.Module, row: Row, kwargs: Kwargs, *, cache: DynamicCache) -> TokenScores:
    """The row on a cache of its own, without padding, which it fills and repeats; the model makes its own masks."""
    num_prompt, device = len(row.prompt_LH), row.prompt_LH.device
    first_V = model(
        inputs_embeds=row.prompt_LH[None],
        position_ids=row.position + torch.arange(num_prompt, device=device)[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **kwargs,
    ).logits[0, -1]
    firsts = logprobs(first_V[None], [(0, ids[0]) for ids in row.options])
    padded = _padded_inputs(row.options, device=device)
    if not padded.shape[1]:
        return list(firsts.split(1))
    cache.batch_repeat_interleave(len(row.options))
    logits = model(
        inputs_embeds=embed(model, padded),
        position_ids=row.position + num_prompt + torch.arange(padded.shape[1], device=device)[None],
        past_key_values=cache,
        use_cache=True,
        **kwargs,
    ).logits
    return [
        torch.cat([firsts[i : i + 1], logprobs(logits[i], list(enumerate(ids[1:])))])
        for i, ids in enumerate(row.options)
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
    if method is None and not takes_mask(model, length):
        return "expanded"
    return method or ("packed" if num_prefix < LONG_PREFIX else "cached")


def takes_mask(model: nn.Module, length: int) -> bool:
    """Whether a [1, 1, S, C + S] mask is exact: neither with flash or flex attention nor beyond a window."""
    return one_by_one(model) is None and length <= _window(model)


def one_by_one(model: nn.Module) -> str | None:
    """Why no two questions can share a forward pass of this model; None if they can."""
    return unmasked(model.config.get_text_config()._attn_implementation)


def _window(model: nn.Module) -> float:
    """How many last tokens some layers of the model attend to; infinity where all of them attend to all tokens."""
    config = model.config.get_text_config()
    layer_types, window = getattr(config, "layer_types", None), getattr(config, "sliding_window", None)
    if window is None or (layer_types and "sliding_attention" not in layer_types):
        return math.inf
    return float(window)


def check_options(model: nn.Module, num_prefix: int, options_ids: TokenIds) -> int:
    """The length of the longest sequence. Raises UserError for what cannot be scored."""
    if num_prefix == 0 or not options_ids:
        raise UserError(f"nothing to score: {num_prefix} prefix tokens, {len(options_ids)} options")
    if empty := [i for i, ids in enumerate(options_ids, start=1) if not len(ids)]:
        raise UserError(f"option {empty[0]} of {len(options_ids)} has no tokens: give it some text")
    longest = num_prefix + max(len(ids) for ids in options_ids)
    check_length(model, longest)
    return longest


def check_length(model: nn.Module, num_tokens: int, *, advice: str = "shorten the text") -> None:
    """Raise UserError for a sequence that is longer than the model's context."""
    if num_tokens > (limit := context(model)):
        raise UserError(f"{num_tokens} tokens exceed the model's context of {limit}: {advice}")


def context(model: nn.Module) -> float:
    """How many tokens the model takes; infinity where its config does not say."""
    return context_of(model.config)


def context_of(config: Any) -> float:
    """`context` of a model with this config of transformers.

    Rotary positions that are scaled by a factor reach as much further, as vLLM counts them. Of `llama3` and `longrope`
    the limit in the config is that of the scaled ones, and so is Gemma 3's, whose layers have settings of their own.
    """
    text = config.get_text_config()
    if (limit := getattr(text, "max_position_embeddings", None)) is None:
        return math.inf
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("linear", "dynamic", "yarn"):
        trained = rope.get("original_max_position_embeddings") or limit
        return max(limit, int(trained * rope.get("factor", 1)))
    return limit


def _padded_inputs(options_ids: TokenIds, *, device: torch.device) -> torch.Tensor:
    """The options as rows of one length, without the last position, which predicts nothing."""
    longest = max(map(len, options_ids))
    rows = [[*ids, *[0] * (longest - len(ids))][:-1] for ids in options_ids]
    return torch.tensor(rows, dtype=torch.long, device=device)


def summed(tokens: Sequence[torch.Tensor]) -> OptionScores:
    # Not by torch, as the GPU of a Mac has no float64.
    return OptionScores(tuple(math.fsum(t.tolist()) for t in tokens), tuple(len(t) for t in tokens))
