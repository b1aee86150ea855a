"""A reply of a language model after a prefix of vectors: the likeliest token, one after the other."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from transformers import DynamicCache

from tideo.models.likelihood import check_length, context
from tideo.models.listener import Writing
from tideo.models.packed import Kwargs, embed


@torch.inference_mode()
def greedy(
    llm: nn.Module,
    prefix_PH: torch.Tensor,
    kwargs: Kwargs,
    *,
    ends: Collection[int],
    writing: Writing,
    most: int,
) -> str:
    """The text up to a token of `ends`, at most `most` tokens or as many as the listener allows.

    It ends where it stands if the listener has left. Raises UserError for a prefix as long as the model's context.
    """
    listener, embeds_LH, cache = writing.listener, prefix_PH, DynamicCache()
    check_length(llm, len(prefix_PH) + 1)
    listener.prompt_tokens = len(prefix_PH)
    for _ in range(listener.limit(most, room=context(llm) - len(prefix_PH))):
        if listener.has_left():
            break
        logits = llm(
            inputs_embeds=embeds_LH[None], past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs
        ).logits
        token = logits[0, -1].argmax()
        if token.item() in ends:
            return writing.end(truncated=False)
        writing.add(int(token))
        embeds_LH = embed(llm, token[None])
    return writing.end(truncated=True)
