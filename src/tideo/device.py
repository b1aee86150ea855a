"""The number format and the CPU threads that suit a device and a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tideo.types import UserError

SMALL_PARAMETERS = 20_000_000


def has_bfloat16(device: torch.device | None = None) -> bool:
    """Whether the device multiplies in bfloat16. Others emulate it, far slower than float32.

    None stands for the accelerator, or for the CPU of a machine without one.
    """
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if device.type != "cpu":
        supported = getattr(torch.get_device_module(device), "is_bf16_supported", None)
        return supported is None or bool(supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


OUT_OF_MEMORY = (
    "the GPU's memory is not enough: take fewer or smaller frames (num_frames; rows, cols, image_size), or "
    "smaller weights (dtype=bf16, load_4bit=true)"
)

# cuBLAS and cuDNN, the driver, and the GPU of a Mac, of which torch raises a plain RuntimeError.
NO_MEMORY = ("_STATUS_ALLOC_FAILED", "error: out of memory", "MPS backend out of memory")


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Run a small model on one thread: more gain nothing, and cost much time when other programs use the cores.

    Raises UserError for a model on several devices that mixes them up.
    """
    before = torch.get_num_threads()
    if sum(p.numel() for p in model.parameters()) < SMALL_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    except RuntimeError as error:
        devices = sorted({str(parameter.device) for parameter in model.parameters()})
        if "on the same device" not in str(error) or len(devices) == 1:
            raise
        raise UserError(
            f"the model lies on {' and '.join(devices)}, and does not compute when it is spread: leave device_map out, "
            "and set load_4bit=true if one device is too small for it"
        ) from error
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_reported() -> Iterator[None]:
    """Raises UserError where the GPU's memory is not enough."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        free_memory()
        raise UserError(OUT_OF_MEMORY) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator's memory was not enough: an error of torch, or of a library or a Mac's GPU in words."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def free_memory() -> None:
    """Give back what the accelerator's allocator keeps for later."""
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
