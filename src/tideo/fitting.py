"""A model that is too large for a GPU: how much it takes, how much there is, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tideo.types import UserError

if TYPE_CHECKING:
    import torch

    from tideo.loading import Loading

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}  # of safetensors' names of types
BITS_8BIT, BITS_4BIT = 9, 5  # of a weight on average: embeddings stay as they are, and blocks have scales


@contextmanager
def fitting(source: str, loading: Loading, *, quantises: bool = True) -> Iterator[None]:
    """Raises UserError if weights do not fit on the device while the block loads them, with what would fit.

    `source` is a folder, a safetensors file or a Hugging Face id. `quantises`: whether this kind of model takes
    load_4bit, load_8bit and device_map.
    """
    import torch

    from tideo.device import is_out_of_memory

    device = loading.torch_device()
    free = free_bytes(device)
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        torch.accelerator.empty_cache()
        weights = saved_weights(source)
        takes = ""
        if weights is not None and loading.quantised is None:
            takes = f"its weights take {gigabytes(weights[0] * _bits(loading, weights[1]) // weights[1])}, "
        room = "its memory is full" if free is None else f"{gigabytes(free)} are free"
        smaller = " or ".join(_smaller(weights, free, loading, device=device, quantises=quantises))
        raise UserError(f"{source} does not fit on {device}: {takes}{room}; set {smaller}") from error


def _smaller(
    weights: tuple[int, int] | None,
    free: int | None,
    loading: Loading,
    *,
    device: torch.device,
    quantises: bool,
) -> list[str]:
    """Settings with which weights of this size are smaller; of those whose size is known, the ones that fit."""
    from tideo.device import has_bfloat16

    options: list[tuple[str, int]] = []  # setting, bits of a weight
    if weights is None or _bits(loading, weights[1]) > 16:
        options.append(("dtype=bf16" if has_bfloat16(device) else "dtype=fp16", 16))
    if quantises and not loading.load_4bit:
        options += [] if loading.load_8bit else [("load_8bit=true", BITS_8BIT)]
        options.append(("load_4bit=true", BITS_4BIT))
    fit = []
    for setting, bits in options:
        size = None if weights is None else weights[0] * bits // weights[1]
        if size is None or free is None or size < free:
            fit.append(setting if size is None else f"{setting} (about {gigabytes(size)})")
    if quantises and loading.device_map is None:
        fit.append("device_map=auto")
    return [*fit, "device=cpu"]


def _bits(loading: Loading, saved: int) -> int:
    return saved if loading.dtype == "auto" else 32 if loading.dtype in ("fp32", "float32") else 16


def saved_weights(source: str) -> tuple[int, int] | None:
    """Bytes of a model's safetensors files and bits of one weight; None if unknown. A Hugging Face id is looked for in
    the cache."""
    from huggingface_hub import try_to_load_from_cache

    folder = Path(source)
    if folder.suffix == ".safetensors":
        return _sizes([folder])
    if not folder.is_dir():
        cached = try_to_load_from_cache(source, "config.json") if source.count("/") == 1 else None
        if not isinstance(cached, str):
            return None
        folder = Path(cached).parent
    return _sizes(sorted(folder.glob("model-*.safetensors")) or sorted(folder.glob("model.safetensors")))


def _sizes(files: list[Path]) -> tuple[int, int] | None:
    from safetensors import SafetensorError, safe_open

    bits = None
    try:
        for path in files:
            with safe_open(path, framework="numpy") as file:
                bits = BITS.get(file.get_slice(next(iter(file.keys()))).get_dtype())
    except (OSError, SafetensorError, StopIteration):
        return None
    return (sum(path.stat().st_size for path in files), bits) if bits else None


def free_bytes(device: torch.device) -> int | None:
    """What of the device's memory this process can still take; None if the device does not tell."""
    import torch

    module: Any = torch.get_device_module(device)
    if not hasattr(module, "mem_get_info"):
        return None
    free, total = module.mem_get_info(device)
    taken = module.memory_allocated(device)
    cached = module.memory_reserved(device) - taken if hasattr(module, "memory_reserved") else 0
    share = getattr(module, "get_per_process_memory_fraction", lambda _: 1.0)(device)
    return int(min(free + cached, total * share - taken))


def gigabytes(num_bytes: int) -> str:
    """As text, in GB or, if there are few, in MB."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 5e7 else f"{num_bytes / 1e6:.1f} MB"
