"""A released TOPA checkpoint (dhg-wei/TOPA), the Llama it was trained on and its memory → a model directory of ours.

Nothing is unpickled: the checkpoint is read by torch's loader of weights alone, the memory by a reader that knows
tensors and nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tideo.encoders.dual import load_encoder
from tideo.encoders.memory import Memory
from tideo.models.topa.checkpoint import PrefixLMConfig, load_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import MEMORY_FILE, Settings
from tideo.types import UserError

# Training and evaluation of TOPA build the rotary table with this base for every Llama, Llama-3 included, so a
# checkpoint on Llama-3 is only right with it (llama/model_llama3.py, re_init_freqs).
ROPE_THETA = 10000.0
MEMORY_ROWS = 1_000_000  # as many as llama/model.py takes


def import_topa(
    checkpoint: str | Path, *, llm: str, memory: str | Path, encoder: str, out: str | Path
) -> Path:
    """Write OUT, which `tideo ask` and `tideo eval` load. `memory` is their memory.pkl, or a tensor in safetensors.

    Raises UserError where a file is missing or something else, or where its shapes are not those of this LLM.
    """
    out = Path(out)
    topa = _weights(Path(checkpoint))
    layers = sum(name.endswith("attention.gate1") for name in topa)
    rows = topa["adapter_query.weight"].shape[0] if "adapter_query.weight" in topa else 0
    adapter_len, odd = divmod(rows, layers or 1)
    if odd:
        raise UserError(
            f"{checkpoint}: {rows} adapter vectors do not fit {layers} layers; it is of another kind"
        )
    tensors = prefix_tensors(topa, adapter_len=adapter_len)
    loaded = load_encoder(encoder)
    values = _memory(Path(memory))
    for what, width in (("projection", tensors["visual_proj.weight"].shape[1]), ("memory", values.shape[1])):
        if width != loaded.dim:
            raise UserError(
                f"the {what} takes {width} features, {encoder} gives {loaded.dim}: name its own encoder"
            )
    config = PrefixLMConfig(
        llm=llm,
        encoder=loaded.id,
        feature_dim=loaded.dim,
        max_frames=tensors["temporal_emb.weight"].shape[0],
        adapter_len=adapter_len,
        rope_theta=ROPE_THETA,
    )
    base, tokenizer = load_llm(llm, rope_theta=ROPE_THETA)
    model = PrefixLM(config, llm=base, tokenizer=tokenizer)
    expected = model.trained_state()
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"{checkpoint}: {name} is {list(tensor.shape)}, {llm} takes {list(expected[name].shape)}: "
                "name the Llama that it was trained on"
            )
    model.load_state_dict(tensors, strict=False)
    model.save_pretrained(out)
    Memory(values_MD=values.half(), encoder=loaded.id).save(out / MEMORY_FILE)
    place = os.path.relpath(encoder, out) if Path(encoder).is_dir() else encoder
    Settings(encoder=place, num_frames=config.max_frames, form="letter").save(out)
    return out


def _weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pth file under `model`, as float32."""
    try:
        with torch.serialization.safe_globals(
            [argparse.Namespace]
        ):  # the training's arguments, read and dropped
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; give TOPA's own checkpoint") from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} cannot be read as weights ({reason}); expected TOPA's own checkpoint"
        ) from error
    named = loaded.get("model") if isinstance(loaded, dict) else None
    if not isinstance(named, dict) or not all(isinstance(t, torch.Tensor) for t in named.values()):
        raise UserError(f"{path} holds no tensors under 'model'; expected TOPA's own checkpoint")
    return {name.removeprefix("module."): tensor.detach().float() for name, tensor in named.items()}


def _memory(path: Path) -> torch.Tensor:
    """Caption features [M, D] of unit length, float32."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the memory of caption features (memory.pkl)")
    values = Memory.load(path).values_MD if path.suffix == ".safetensors" else _pickled_tensor(path)
    if (
        not isinstance(values, torch.Tensor)
        or values.ndim != 2
        or not values.is_floating_point()
        or not len(values)
    ):
        raise UserError(f"{path}: expected one matrix of caption features, found {_what(values)}")
    return torch.nn.functional.normalize(values[:MEMORY_ROWS].float(), dim=-1)


def _what(found: object) -> str:
    return f"{found.dtype} {list(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__


class _TensorsOnly(pickle.Unpickler):
    """Reads a pickled tensor: three names are known, each with a harmless meaning; any other is an error."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch.storage", "_load_from_bytes"): _storage,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no tensor needs")
        return known[module, name]


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _pickled_tensor(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _TensorsOnly(file).load()
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be read as a tensor ({reason}); expected the memory.pkl of TOPA"
        ) from error


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
