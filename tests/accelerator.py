"""A stand-in for a GPU in pure Python: PyTorch's out-of-tree device `standin:N`, whose tensors lie in host memory.

    with accelerator.devices(count=2, limit=10_000_000):
        model = load_model("dollhouse-topa", args=["device=standin:1"])

It refuses what CUDA refuses: operands on two devices, NumPy arrays of its tensors, more memory than a device has, and,
where set, bfloat16, or float64 as a Mac's GPU does. The first use of `devices` registers the device for the rest of the
process, but only within `devices` does torch find it. A backward pass runs on index 0 alone, and only if there was none
in this process before that: torch starts the threads of a device with the first one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from accelerator_tensor import DEVICES, NAME, Devices, aten, run


@contextlib.contextmanager
def devices(
    *, count: int = 2, limit: int | None = None, bfloat16: bool = True, float64: bool = True
) -> Iterator[Devices]:
    """The machine has this many devices while the block runs; `limit` is the memory of each in bytes."""
    _register()
    before = DEVICES.count, DEVICES.limit, DEVICES.bfloat16, DEVICES.float64, DEVICES.current
    DEVICES.count, DEVICES.limit, DEVICES.bfloat16, DEVICES.float64 = count, limit, bfloat16, float64
    DEVICES.current = 0
    DEVICES.peak.clear()
    try:
        yield DEVICES
    finally:
        DEVICES.count, DEVICES.limit, DEVICES.bfloat16, DEVICES.float64, DEVICES.current = before


class _Module:
    """torch.standin. The names are torch.cuda's."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return DEVICES.count > 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def device_count(self) -> int:
        return DEVICES.count

    def current_device(self) -> int:
        return DEVICES.current

    def set_device(self, device: Any) -> None:
        DEVICES.current = device if isinstance(device, int) else torch.device(device).index or 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, *([torch.bfloat16] if DEVICES.bfloat16 else [])]

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return DEVICES.bfloat16

    def memory_allocated(self, device: Any = None) -> int:
        return DEVICES.live[_index(device)]

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        total = 1 << 40 if DEVICES.limit is None else DEVICES.limit
        return total - self.memory_allocated(device), total

    def empty_cache(self) -> None:
        DEVICES.emptied += 1


class _Hook(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return DEVICES.count > 0

    def has_primary_context(self, dev_id: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


class _Guard(torch._C._acc.DeviceGuard):
    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


def _index(device: Any) -> int:
    index = device if device is None or isinstance(device, int) else torch.device(device).index
    return DEVICES.current if index is None else index


# --- kernels --------------------------------------------------------------------------------------

# Operations that make a tensor of none, whose own kernels would write into an empty one and change its size.
FACTORIES = (
    "empty", "empty_strided", "empty_permuted", "arange", "full", "zeros", "ones", "rand", "randn", "randint",
    "randperm", "eye", "linspace", "logspace", "scalar_tensor", "tril_indices", "triu_indices",
)  # fmt: skip
# Operations whose operands come without Python's key, as inside torch.tensor(…, device=…).
COPIES = (
    "_copy_from",
    "_to_copy",
    "copy_",
    "fill_.Scalar",
    "zero_",
    "set_.source_Tensor",
    "_local_scalar_dense",
)
# Under autocast, as CUDA has it; the others compute in the type of their operands.
IN_HALF = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv2d", "scaled_dot_product_attention")
IN_FLOAT32 = ("layer_norm", "softmax.int", "log_softmax.int", "cross_entropy_loss", "nll_loss")


@cache
def _register() -> tuple[torch.library.Library, ...]:
    """The device, and a kernel for all that does not reach `StandIn.__torch_dispatch__`; they live as long as this."""
    own, found = torch._C._accelerator_getAccelerator(), torch._C._accelerator_getAccelerator
    empty_cache, module = torch.accelerator.empty_cache, _Module()
    _setup_privateuseone_for_python_backend(
        rename=NAME, backend_module=module, hook=_Hook(), device_guard=_Guard()
    )
    torch._C._accelerator_getAccelerator = lambda: found() if DEVICES.count else own
    # torch's own asserts an allocator in C++.
    torch.accelerator.empty_cache = lambda: module.empty_cache() if DEVICES.count else empty_cache()
    library, autocast = (
        torch.library.Library("aten", "IMPL"),
        torch.library.Library("_", "IMPL", "AutocastPrivateUse1"),
    )
    for name in FACTORIES:
        packet = getattr(aten, name)
        for func in (getattr(packet, overload) for overload in packet.overloads()):
            names = {argument.name for argument in func._schema.arguments}
            if "device" in names and not names & {"generator", "names"}:
                library.impl(func, _kernel(func), "PrivateUse1")
    for func in map(_overload, COPIES):
        library.impl(func, _kernel(func), "PrivateUse1")
    for kinds, dtype in ((IN_HALF, None), (IN_FLOAT32, torch.float32)):
        for func in map(_overload, kinds):
            library.impl(func, _autocast_kernel(func, dtype), "AutocastPrivateUse1")
    autocast.fallback(torch.library.fallthrough_kernel)
    return library, autocast


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet), overload or "default")


def _kernel(func: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: run(func, args, kwargs)


def _autocast_kernel(func: Any, dtype: torch.dtype | None) -> Callable[..., Any]:
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        target = dtype or torch.get_autocast_dtype(NAME)

        def cast(x: Any) -> Any:
            return x.to(target) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

        with torch._C._ExcludeDispatchKeyGuard(key):
            return func(*tree_map(cast, args), **tree_map(cast, kwargs))

    return kernel
