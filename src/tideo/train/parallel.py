"""`train.parallel`: how several GPUs share the weights, gradients and optimiser of a training.

`zero2`, `zero3` and `zero3_offload` are DeepSpeed files of this package (ZeRO, arXiv 1910.02054); `fsdp` is PyTorch's
own sharding; any other value is the path of a DeepSpeed file. None: every process holds the whole model (DDP).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tideo import registry
from tideo.loading import Loading
from tideo.types import UserError

FSDP = "fsdp"
RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """What the GPUs share evenly, and whether the optimiser is in host memory."""

    name: str | None = None
    weights: bool = False
    gradients: bool = False
    optimizer: bool = False
    offload: bool = False


def deepspeed_file(parallel: str | None) -> str | None:
    """The DeepSpeed file that `train.parallel` names; None for `fsdp` or None.

    Raises UserError if there is no such file.
    """
    if parallel is None or parallel == FSDP:
        return None
    bundled = RECIPES / f"{parallel}.json"
    path = bundled if bundled.is_file() else Path(parallel)
    if path.suffix != ".json" or not path.is_file():
        raise UserError(
            f"train.parallel={parallel}: expected fsdp, zero2, zero3, zero3_offload or the path of a DeepSpeed file, "
            "*.json"
        )
    return str(path)


def sharding(parallel: str | None) -> Sharding:
    """Raises UserError for a DeepSpeed file that cannot be read."""
    if parallel is None:
        return Sharding()
    if parallel == FSDP:
        return Sharding(name="FSDP", weights=True, gradients=True, optimizer=True)
    path = deepspeed_file(parallel)
    try:
        zero = json.loads(Path(str(path)).read_text(encoding="utf-8")).get("zero_optimization", {})
        stage = int(zero.get("stage", 0))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"train.parallel={parallel}: {path} is no configuration of DeepSpeed ({error})"
        ) from error
    return Sharding(
        name=f"ZeRO-{stage}",
        weights=stage >= 3,
        gradients=stage >= 2,
        optimizer=stage >= 1,
        offload=zero.get("offload_optimizer", {}).get("device", "none") != "none",
    )


def check_loading(loading: Loading, parallel: str | None) -> None:
    """Raises UserError for a place or a form of the weights that a training cannot have."""
    if loading.device_map is not None:
        raise UserError(
            f"device_map={loading.device_map}: in a training train.parallel spreads a model, as in train.parallel=fsdp"
        )
    if loading.quantised and sharding(parallel).weights:
        raise UserError(
            f"train.parallel={parallel} shards weights, and those in {'4' if loading.load_4bit else '8'} bits are not "
            "sharded: set train.parallel=none or zero2"
        )


def layers(model: Any) -> list[str]:
    """The classes of layers that FSDP shards one by one: of those that a model names, the ones that it has."""
    return sorted({type(m).__name__ for m in model.modules()} & set(model._no_split_modules))


def whole_state(model: Any) -> dict[str, torch.Tensor]:
    """The parameters that learn, whole and on the CPU, whatever shards them. Every process must call this."""
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # DeepSpeed's marks, of ZeRO-3 and of ZeRO-1 and 2. It trains copies in float32 and rounds them to bfloat16.
    if any(hasattr(p, "ds_id") or hasattr(p, "_hp_mapping") for p in learning.values()):
        whole_of: Any = registry.require("deepspeed").utils.safe_get_full_fp32_param
        return {name: whole_of(p).cpu() for name, p in learning.items()}
    whole = {n: p.full_tensor() if hasattr(p, "full_tensor") else p for n, p in learning.items()}
    return {name: p.detach().cpu() for name, p in whole.items()}


def check_parallel(parallel: str | None) -> None:
    """Raises UserError for sharding without a GPU, which Accelerate would silently ignore, or without DeepSpeed."""
    if deepspeed_file(parallel):
        registry.require("deepspeed")
    if parallel and not torch.accelerator.is_available():
        raise UserError(
            f"train.parallel={parallel} needs GPUs: leave it out; several processes then share the batch"
        )
