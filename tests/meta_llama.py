"""Llama's weights under Meta's names, which the golden files have, as transformers names them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

_LLM_NAMES = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def llama_tensors(meta: Mapping[str, torch.Tensor], *, head_dim: int) -> dict[str, torch.Tensor]:
    """Meta-named Llama tensors as a state dict of LlamaForCausalLM."""
    renamed = {}
    for name, tensor in meta.items():
        layer = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
        if name in _LLM_NAMES:
            renamed[_LLM_NAMES[name]] = tensor
        elif layer and layer[2] in _LAYER_NAMES:
            if layer[2] in ("attention.wq", "attention.wk"):
                tensor = tensor.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)
            renamed[f"model.layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.weight"] = tensor.contiguous()
        else:
            assert name == "rope.freqs", name
    return renamed
