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
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


OUT_OF_MEMORY = "the GPU's memory is not enough: take fewer or smaller frames, or a smaller dtype"


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Run a small model on one thread: more gain nothing, and cost much time when other programs use the cores."""
    before = torch.get_num_threads()
    if sum(p.numel() for p in model.parameters()) < SMALL_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_reported() -> Iterator[None]:
    """Raises UserError where the GPU's memory is not enough."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        free_memory()
        raise UserError(OUT_OF_MEMORY) from error


def free_memory() -> None:
    """Give back what the accelerator's allocator keeps for later."""
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
