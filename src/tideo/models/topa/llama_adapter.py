"""TOPA's gated attention (arXiv 2405.13911, after LLaMA-Adapter, arXiv 2303.16199) for Hugging Face decoders.

Every layer has `adapter_len` learned vectors. The frozen k and v projections turn them into keys Ka and values Va
without a rotary position. They get a softmax of their own, which is scaled by tanh(gate1) per head and added to the
usual attention:

    out = softmax(q K^T + mask + gate2 [query after the video] [key in the video]) V
          + tanh(gate1) softmax(q Ka^T) Va

gate1 starts at 0, so training starts from the plain LLM except for gate2, which starts at -gate_bias.
The formula is that of the published code, dhg-wei/TOPA llama/model.py.

Shapes: B batch, L layers, A adapter vectors, D hidden width, H heads, G key-value heads, Q queries, K keys,
E head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tideo.types import UserError

ATTENTION = "tideo_gated_video"


@dataclass(frozen=True, kw_only=True, eq=False)
class GatedVideo:
    """What the attention of every layer needs: the keyword `gated_video` of the LLM's forward.

    `video_start_B` and `video_end_B` are key positions. The queries of a forward are always its last keys, so the
    same object serves a full sequence, a cached prefix and a packed forward.
    """

    query_LAD: torch.Tensor
    gate1_LH: torch.Tensor
    gate2_LH: torch.Tensor
    video_start_B: torch.Tensor
    video_end_B: torch.Tensor
    _known: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def keys_values(self, attention: Any, *, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The adapter's keys and values in one layer, each [1, G, A, E], on the device and in the dtype of `like`.

        A layer computes them itself, in its own forward: only there are its weights whole if FSDP shards them. Without
        gradients it does so once for all forwards of a prompt. In training each forward has an object of its own, and
        a layer that is recomputed for the backward pass must compute the same again.
        """
        layer = attention.layer_idx
        if layer in self._known:
            return self._known[layer]
        query_AD = self.query_LAD[layer].to(like)
        keys, values = (
            project(query_AD).unflatten(-1, (-1, attention.head_dim)).transpose(0, 1)[None]
            for project in (attention.k_proj, attention.v_proj)
        )
        if not torch.is_grad_enabled():
            self._known[layer] = keys, values
        return keys, values


class LlamaAdapter(nn.Module):
    """The trained parameters: `query_LAD`, `gate1_LH` and `gate2_LH`."""

    def __init__(
        self, llm: PreTrainedModel, *, adapter_len: int, gate_bias: float, init_std: float = 1.0
    ) -> None:
        super().__init__()
        config = llm.config.get_text_config()
        num_layers, num_heads = len(attention_layers(llm)), config.num_attention_heads
        # TOPA keeps its queries in an nn.Embedding, which starts with a standard deviation of 1.
        self.query_LAD = nn.Parameter(torch.randn(num_layers, adapter_len, config.hidden_size) * init_std)
        self.gate1_LH = nn.Parameter(torch.zeros(num_layers, num_heads))
        self.gate2_LH = nn.Parameter(torch.full((num_layers, num_heads), -float(gate_bias)))

    def forward(self, *, video_start_B: torch.Tensor, video_end_B: torch.Tensor) -> GatedVideo:
        # Copies, because ZeRO-3 shards a module's own parameters again when its forward ends.
        return GatedVideo(
            query_LAD=self.query_LAD.clone(),
            gate1_LH=self.gate1_LH.clone(),
            gate2_LH=self.gate2_LH.clone(),
            video_start_B=video_start_B,
            video_end_B=video_end_B,
        )


def attention_layers(llm: PreTrainedModel) -> list[Any]:
    """The attention module of every layer, first to last. Raises UserError if the formula does not apply to it."""
    layers = [getattr(layer, "self_attn", None) for layer in getattr(llm.get_decoder(), "layers", [])]
    fits = [hasattr(a, "k_proj") and hasattr(a, "v_proj") and not hasattr(a, "k_norm") for a in layers]
    if not layers or not all(fits):
        raise UserError(
            f"adapter 'llama-adapter' needs layers with plain k_proj and v_proj, not {type(llm).__name__}: "
            "use a Llama-like model, or adapter 'lora'"
        )
    return layers


def use_gated_attention(llm: PreTrainedModel) -> None:
    """Make `llm` use `gated_attention`. Forwards without `gated_video` still compute plain attention."""
    llm.set_attn_implementation(ATTENTION)


def gated_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    gated_video: GatedVideo | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function for transformers: query [B, H, Q, E] and key, value [B, G, K, E] to [B, Q, H, E]."""
    if gated_video is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    layer, groups = module.layer_idx, query.shape[1] // key.shape[1]
    bias = _mask(attention_mask, query, key) + _video_bias(gated_video, layer, query, key)
    text = F.scaled_dot_product_attention(
        query,
        key.repeat_interleave(groups, dim=1),
        value.repeat_interleave(groups, dim=1),
        attn_mask=bias,
        dropout_p=dropout,
        scale=scaling,
    )
    keys, values = gated_video.keys_values(module, like=query)
    adapter = F.scaled_dot_product_attention(
        query,
        keys.repeat_interleave(groups, dim=1).expand(len(query), -1, -1, -1),
        values.repeat_interleave(groups, dim=1).expand(len(query), -1, -1, -1),
        scale=scaling,
    )
    gate1 = gated_video.gate1_LH[layer].tanh().to(query)[:, None, None]
    return (text + gate1 * adapter).transpose(1, 2).contiguous(), None


def _mask(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The mask as an additive one; None means causal attention of the last Q positions."""
    num_queries, num_keys = query.shape[2], key.shape[2]
    if mask is None:
        mask = torch.ones(num_queries, num_keys, dtype=torch.bool, device=query.device)
        mask = mask.tril(num_keys - num_queries)
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    return mask.to(query.dtype)


def _video_bias(video: GatedVideo, layer: int, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """gate2 where a text token after the video attends to the video: [B, H, Q, K]."""
    key_K = torch.arange(key.shape[2], device=query.device)
    query_Q = key_K[-query.shape[2] :]
    start_B1, end_B1 = (
        place_B[:, None].to(query.device) for place_B in (video.video_start_B, video.video_end_B)
    )
    after_BQ, inside_BK = query_Q >= end_B1, (key_K >= start_B1) & (key_K < end_B1)
    where_BQK = after_BQ[:, :, None] & inside_BK[:, None]
    return where_BQK[:, None].to(query.dtype) * video.gate2_LH[layer].to(query)[:, None, None]


# The extension point of transformers: a new name in its tables, without a change to its code.
AttentionInterface.register(ATTENTION, gated_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
