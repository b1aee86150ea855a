"""Tensors of a released TOPA checkpoint, and of the Meta-named LLM it sits on, under the names used here.

Meta's rotary embedding turns neighbouring pairs (0, 1), (2, 3), …; Hugging Face's turns halves (0, E/2), ….
So the rows of q and k are permuted within each head (transformers,
models/llama/convert_llama_weights_to_hf.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from tideo.types import UserError

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
    """Meta-named Llama tensors as a LlamaForCausalLM's state dict. Raises UserError for an unknown name."""
    renamed = {}
    for name, tensor in meta.items():
        layer = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
        if name in _LLM_NAMES:
            renamed[_LLM_NAMES[name]] = tensor
        elif layer and layer[2] in _LAYER_NAMES:
            if layer[2] in ("attention.wq", "attention.wk"):
                tensor = tensor.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)
            renamed[f"model.layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.weight"] = tensor.contiguous()
        elif name != "rope.freqs":
            raise UserError(
                f"tensor {name!r} is not one of a Meta-named Llama: expected layers.N.attention.wq.weight …"
            )
    return renamed


def prefix_tensors(topa: Mapping[str, torch.Tensor], *, adapter_len: int) -> dict[str, torch.Tensor]:
    """A TOPA checkpoint's trained tensors under PrefixLM's names. Raises UserError where one is missing."""
    layers = sorted(
        int(m[1]) for name in topa if (m := re.fullmatch(r"layers\.(\d+)\.attention\.gate1", name))
    )
    names = ["adapter_query.weight", "visual_proj.weight", "temporal_emb.weight"]
    names += [f"layers.{i}.attention.gate{g}" for i in range(len(layers)) for g in (1, 2)]
    missing = [name for name in names if name not in topa]
    if missing or not layers:
        raise UserError(
            f"not a TOPA checkpoint: {missing[0] if missing else 'layers.0.attention.gate1'} is missing"
        )
    return {
        "visual_proj.weight": topa["visual_proj.weight"],
        "temporal_emb.weight": topa["temporal_emb.weight"],
        "adapter.query_LAD": topa["adapter_query.weight"].unflatten(0, (len(layers), adapter_len)),
        "adapter.gate1_LH": torch.stack([topa[f"layers.{i}.attention.gate1"].flatten() for i in layers]),
        "adapter.gate2_LH": torch.stack([topa[f"layers.{i}.attention.gate2"].flatten() for i in layers]),
    }
