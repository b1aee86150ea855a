"""Which numbers a device computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    import torch


def has_bfloat16(device: torch.device | None = None) -> bool:
    """Whether products in bfloat16 are computed as such; elsewhere they are emulated, far slower than float32.

    None: the accelerator, and the CPU where there is none.
    """
    import torch

    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


TINY_PARAMETERS = 20_000_000


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """One thread for a tiny model: more gain nothing, and cost much where other programs want the cores."""
    before = torch.get_num_threads()
    if sum(p.numel() for p in model.parameters()) < TINY_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
