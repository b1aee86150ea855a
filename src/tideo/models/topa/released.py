"""A released TOPA checkpoint (dhg-wei/TOPA), the Llama it was trained on and its memory → a model directory.

No pickle may run code: torch's weights-only loader reads the checkpoint, and a reader that knows nothing but tensors
reads the memory.
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
from tideo.loading import Loading
from tideo.models.topa.checkpoint import PrefixLMConfig, load_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import MEMORY_FILE, Settings
from tideo.types import UserError

# TOPA builds the rotary table with this base for every Llama, in training and in evaluation. A checkpoint on Llama 3,
# whose own base is larger, gives the published scores only with it (llama/model_llama3.py, re_init_freqs).
ROPE_THETA = 10000.0
MEMORY_ROWS = 1_000_000  # llama/model.py uses this many rows of the memory


def import_topa(
    checkpoint: str | Path, *, llm: str, memory: str | Path, encoder: str, out: str | Path
) -> Path:
    """Write OUT, which `tideo ask` and `tideo eval` load. `memory` is TOPA's memory.pkl or a safetensors file.

    Raises UserError if a file is missing or of another kind, or if its shapes do not fit `llm` or `encoder`.
    """
    out = Path(out)
    topa = _weights(Path(checkpoint))
    tensors = prefix_tensors(topa)
    loaded = load_encoder(encoder, loading=Loading(device="cpu"))
    values = _memory(Path(memory))
    for what, width in (("projection", tensors["visual_proj.weight"].shape[1]), ("memory", values.shape[1])):
        if width != loaded.dim:
            raise UserError(
                f"the {what} takes {width} features, but {encoder} gives {loaded.dim}: name the encoder that TOPA used"
            )
    config = PrefixLMConfig(
        llm=llm,
        encoder=loaded.id,
        feature_dim=loaded.dim,
        max_frames=tensors["temporal_emb.weight"].shape[0],
        adapter_len=tensors["adapter.query_LAD"].shape[1],
        rope_theta=ROPE_THETA,
    )
    base, tokenizer = load_llm(llm, loading=Loading(device="cpu"), rope_theta=ROPE_THETA)
    model = PrefixLM(config, llm=base, tokenizer=tokenizer)
    expected = model.trained_state()
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"{checkpoint}: {name} is {list(tensor.shape)}, but {llm} takes {list(expected[name].shape)}: "
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
        # The file also holds the training's arguments, which are not used.
        with torch.serialization.safe_globals([argparse.Namespace]):
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


def prefix_tensors(topa: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The trained tensors of a TOPA checkpoint under PrefixLM's names. Raises UserError if one is missing."""
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
    query_RD = topa["adapter_query.weight"]
    if len(query_RD) % len(layers):
        raise UserError(
            f"not a TOPA checkpoint: {len(query_RD)} adapter vectors do not fit {len(layers)} layers"
        )
    return {
        "visual_proj.weight": topa["visual_proj.weight"],
        "temporal_emb.weight": topa["temporal_emb.weight"],
        "adapter.query_LAD": query_RD.unflatten(0, (len(layers), -1)),
        "adapter.gate1_LH": torch.stack([topa[f"layers.{i}.attention.gate1"].flatten() for i in layers]),
        "adapter.gate2_LH": torch.stack([topa[f"layers.{i}.attention.gate2"].flatten() for i in layers]),
    }


def _memory(path: Path) -> torch.Tensor:
    """The caption features of the memory: float32 [M, D], every row of unit length."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the memory of caption features (memory.pkl)")
    values = Memory.load(path).values_MD if path.suffix == ".safetensors" else _pickled_tensor(path)
    is_tensor = isinstance(values, torch.Tensor)
    if not (is_tensor and values.ndim == 2 and values.is_floating_point() and len(values)):
        found = f"{values.dtype} {list(values.shape)}" if is_tensor else type(values).__name__
        raise UserError(f"{path}: expected one matrix of caption features, found {found}")
    return torch.nn.functional.normalize(values[:MEMORY_ROWS].float(), dim=-1)


class _TensorsOnly(pickle.Unpickler):
    """Reads a pickled tensor: only the three harmless names that a tensor needs are allowed."""

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
    except Exception as error:  # a damaged pickle can raise any error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be read as a tensor ({reason}); expected the memory.pkl of TOPA"
        ) from error
