"""Options packed behind their prompt in one forward: a row holds a prompt and all its options under a tree mask.

Rows of different lengths share a forward. A prompt is padded on its left, so that the prompts of all rows end in the
same column, and the options on their right; no token attends to padding. A row of its own has none.

Shapes: R rows, L columns of one forward, C cached tokens, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import DynamicCache

TokenIds = Sequence[Sequence[int]]  # of each option
TokenScores = list[torch.Tensor]  # of each option: float32 log-probabilities [tokens]
Kwargs = Mapping[str, Any]  # of the model's forward


class Row(NamedTuple):
    """`prompt_LH` are the embeddings before the options, at least one; `position` is that of the first of them.

    `num_cached`: how many tokens of the row's cache are its own; what comes after them is padding.
    """

    prompt_LH: torch.Tensor
    options: TokenIds
    position: int = 0
    num_cached: int = 0


def packed(
    model: nn.Module, rows: Sequence[Row], kwargs: Kwargs, *, cache: DynamicCache | None = None
) -> list[TokenScores]:
    """One forward over all rows; each option attends to its prompt, what is cached of it, and itself."""
    device, dtype = rows[0].prompt_LH.device, rows[0].prompt_LH.dtype
    num_cached = cache.get_seq_length() if cache is not None else 0
    # An option's last token predicts nothing, so it is no input.
    lengths = [[len(ids) - 1 for ids in row.options] for row in rows]
    num_prompt = max(len(row.prompt_LH) for row in rows)
    num_options = max(map(sum, lengths))
    ids_RL = torch.zeros(len(rows), num_options, dtype=torch.long)
    branch_RL = torch.full((len(rows), num_prompt + num_options), -1)  # -1 is padding, 0 the prompt
    position_RL = torch.zeros_like(branch_RL)
    for r, (row, of_row) in enumerate(zip(rows, lengths, strict=True)):
        own = len(row.prompt_LH)
        branch_RL[r, num_prompt - own : num_prompt] = 0
        position_RL[r, num_prompt - own : num_prompt] = row.position + torch.arange(own)
        for i, (start, ids) in enumerate(zip(accumulate(of_row, initial=0), row.options, strict=False)):
            columns = slice(num_prompt + start, num_prompt + start + of_row[i])
            ids_RL[r, start : start + of_row[i]] = torch.tensor(ids[:-1], dtype=torch.long)
            branch_RL[r, columns] = i + 1
            position_RL[r, columns] = row.position + own + torch.arange(of_row[i])
    prompts_RLH = torch.stack(
        [nn.functional.pad(row.prompt_LH, (0, 0, num_prompt - len(row.prompt_LH), 0)) for row in rows]
    )
    logits_RLV = model(
        inputs_embeds=torch.cat([prompts_RLH, embed(model, ids_RL.to(device)).to(dtype)], dim=1),
        attention_mask=_mask(rows, branch_RL.to(device), num_cached=num_cached, dtype=dtype),
        position_ids=position_RL.to(device),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=1 + num_options,  # a number: indices would lie on another GPU than the last layer
        **kwargs,
    ).logits
    return [_scores(logits_LV, row.options) for logits_LV, row in zip(logits_RLV, rows, strict=True)]


def _mask(
    rows: Sequence[Row], branch_RL: torch.Tensor, *, num_cached: int, dtype: torch.dtype
) -> torch.Tensor:
    """The additive mask [R, 1, L, C + L]."""
    num_rows, num_columns = branch_RL.shape
    order_L = torch.arange(num_columns, device=branch_RL.device)
    keys_R1L, queries_RL1 = branch_RL[:, None], branch_RL[:, :, None]
    visible_RLL = (order_L[:, None] >= order_L) & ((keys_R1L == 0) | (keys_R1L == queries_RL1))
    mask = torch.zeros(
        num_rows, 1, num_columns, num_cached + num_columns, dtype=dtype, device=branch_RL.device
    )
    hidden = torch.finfo(dtype).min
    mask[:, 0, :, num_cached:].masked_fill_(~visible_RLL, hidden)
    for r, row in enumerate(rows):
        mask[r, :, :, row.num_cached : num_cached] = hidden
    return mask


def _scores(logits_LV: torch.Tensor, options: TokenIds) -> TokenScores:
    """Row 0 of the logits, the prompt's last token, predicts the first token of every option."""
    ends = list(accumulate((len(ids) - 1 for ids in options), initial=1))
    places = [
        (row, token)
        for start, end, ids in zip(ends[:-1], ends[1:], options, strict=True)
        for row, token in zip([0, *range(start, end)], ids, strict=True)
    ]
    return list(logprobs(logits_LV, places).split([len(ids) for ids in options]))


def logprobs(logits_LV: torch.Tensor, places: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The float32 log-probability at each (row, token)."""
    rows, tokens = torch.tensor(places, dtype=torch.long, device=logits_LV.device).reshape(-1, 2).T
    logits_LV = logits_LV.float()
    return logits_LV[rows, tokens] - logits_LV.logsumexp(-1)[rows]


def embed(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids [...] to embeddings [..., H]; embeddings pass through."""
    if tokens.is_floating_point():
        return tokens
    table = model.get_input_embeddings()
    embeds: torch.Tensor = table(tokens.to(table.weight.device))
    return embeds


def prefilled(model: nn.Module, prefixes: Sequence[torch.Tensor], kwargs: Kwargs) -> DynamicCache:
    """The key-value cache of prefixes [P, H] under plain causal attention, padded on the right.

    Causal attention never looks there; who reads the cache leaves the padding out.
    """
    cache = DynamicCache()
    embeds_RPH = nn.utils.rnn.pad_sequence(list(prefixes), batch_first=True)
    if embeds_RPH.shape[1]:
        model(inputs_embeds=embeds_RPH, past_key_values=cache, use_cache=True, logits_to_keep=1, **kwargs)
    return cache


def selected(cache: DynamicCache, rows: Sequence[int]) -> DynamicCache:
    """A copy of these rows of a cache, in this order; a row may come again."""
    copy = DynamicCache()
    for i, layer in enumerate(cache.layers):
        index = torch.tensor(rows, device=layer.keys.device)
        copy.update(layer.keys[index], layer.values[index], i)
    return copy
