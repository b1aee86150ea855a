"""A stand-in for a GPU in pure Python: PyTorch's out-of-tree device `standin:N`, whose tensors lie in host memory.

It refuses what CUDA refuses: operands on two devices, NumPy arrays of its tensors, more memory than a device has, and,
where set, bfloat16. It records where the operands of every operation lay. Import it in a process of its own
(tests/standin.py): a device is registered for good, and would be the accelerator of every later test.

Each tensor wraps one of the CPU, which every operation takes out, computes with and wraps again
(https://github.com/pytorch/pytorch/blob/main/test/test_privateuseone_python_backend.py shows the hooks).
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
aten = torch.ops.aten
CPU = torch.device("cpu")


class Devices:
    """What is set of all stand-in devices, and what is known of them. `limit` is in bytes of one device."""

    def __init__(self) -> None:
        self.count, self.limit, self.bfloat16 = 2, None, True
        self.current = 0
        self.live: Counter[int] = Counter()  # bytes of each device
        self.peak: Counter[int] = Counter()
        self.operands: Counter[str] | None = None  # "device" → operands of the operations, while recorded
        self.operations: Counter[tuple[str, str]] = Counter()  # ("device", operation) → calls, while recorded
        self.emptied = 0  # calls of torch.accelerator.empty_cache
        self.lock = threading.RLock()

    def record(self, name: str, tensors: list[torch.Tensor]) -> None:
        if self.operands is not None:
            for tensor in tensors:
                place = str(tensor.device)
                self.operands[place] += 1
                self.operations[place, name] += 1


DEVICES = Devices()


class Block:
    """The memory of one storage. It is given back when the last tensor that lies in it is gone."""

    def __init__(self, index: int, num_bytes: int) -> None:
        with DEVICES.lock:
            if DEVICES.limit is not None and DEVICES.live[index] + num_bytes > DEVICES.limit:
                raise torch.OutOfMemoryError(
                    f"{NAME} out of memory. Tried to allocate {num_bytes} bytes. Device {index} has a total capacity "
                    f"of {DEVICES.limit} bytes of which {DEVICES.limit - DEVICES.live[index]} are free."
                )
            DEVICES.live[index] += num_bytes
            DEVICES.peak[index] = max(DEVICES.peak[index], DEVICES.live[index])
        weakref.finalize(self, _release, index, num_bytes)


def _release(index: int, num_bytes: int) -> None:
    with DEVICES.lock:
        DEVICES.live[index] -= num_bytes


_blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()  # by address


def _block(inner: torch.Tensor, index: int) -> Block | None:
    address, num_bytes = inner.untyped_storage().data_ptr(), inner.untyped_storage().nbytes()
    if not num_bytes:
        return None
    block = _blocks.get(address)
    if block is None:
        block = _blocks[address] = Block(index, num_bytes)
    return block


class StandIn(torch.Tensor):
    """A tensor of a stand-in device; `inner` is the tensor of the CPU that holds its values."""

    inner: torch.Tensor
    block: Block | None

    @staticmethod
    def __new__(cls, inner: torch.Tensor, index: int) -> StandIn:
        if inner.dtype == torch.bfloat16 and not DEVICES.bfloat16:
            raise RuntimeError(f"{NAME}:{index} has no bfloat16")
        block = _block(inner, index)
        outer = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, index),
        )
        outer.inner, outer.block = inner, block
        return outer

    def __repr__(self, **_: Any) -> str:
        return f"{self.inner!r:.200} on {self.device}"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first."
            )
        return self.detach().cpu().numpy()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()  # by whose address libraries find tied weights

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __reduce_ex__(self, protocol: Any) -> Any:
        rebuild = torch._utils._rebuild_device_tensor_from_cpu_tensor
        return rebuild, (self.inner.detach(), self.dtype, str(self.device), self.requires_grad)

    # Module.to swaps such tensors into its parameters, so that tied weights stay tied.
    def __tensor_flatten__(self) -> tuple[list[str], int]:
        return ["inner"], self.device.index

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], index: int, size: Any, stride: Any) -> StandIn:
        return StandIn(inner["inner"], index)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copy = self.detach().clone()
            copy = (
                torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy
            )
            memo[id(self)] = copy
        return memo[id(self)]


# What may have operands on two devices, as on CUDA: copies, and indices from the CPU.
ACROSS = {
    aten.copy_.default, aten._to_copy.default, aten._copy_from.default, aten.index.Tensor, aten.index_put_.default,
    aten.index_put.default, aten._index_put_impl_.default, aten._unsafe_index.Tensor, aten.set_.source_Tensor,
}  # fmt: skip


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU's tensors; the result on the device of the operands, or on the one that is asked for."""
    flat, layout = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    DEVICES.record(str(func), tensors)
    ours = [x for x in tensors if isinstance(x, StandIn)]
    indices = {x.device.index for x in ours}
    if func not in ACROSS and (
        len(indices) > 1 or (ours and any(not isinstance(x, StandIn) and x.ndim for x in tensors))
    ):
        places = sorted({str(x.device) for x in tensors if isinstance(x, StandIn) or x.ndim})
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(places)}! (when checking operands of {func})"
        )
    wanted = next((x for x in flat if isinstance(x, torch.device)), None)
    if wanted is None:
        index = ours[0].device.index if ours else DEVICES.current
    elif wanted.type == NAME:
        index = DEVICES.current if wanted.index is None else wanted.index
    else:
        index = None  # the result goes to another device
    if index is not None and not 0 <= index < DEVICES.count:
        raise RuntimeError(f"{NAME} error: invalid device ordinal {index} of {DEVICES.count}")
    if func is aten._copy_from.default:
        source, target = args[:2]
        _inner(target).copy_(_inner(source))
        return target
    if func is aten._local_scalar_dense.default or func is aten.is_pinned.default:
        return func(*map(_inner, args))
    plain = [_inner(x) for x in flat]
    if index is not None:
        plain = [CPU if isinstance(x, torch.device) else x for x in plain]
    plain_args, plain_kwargs = tree_unflatten(plain, layout)
    plain_kwargs.pop("pin_memory", None)
    if func is aten._to_copy.default and (wanted is not None):
        plain_kwargs["device"] = CPU if index is not None else wanted
        out = func(*plain_args, **plain_kwargs)
    elif func in (aten.detach.default, aten.alias.default):
        out = plain_args[0].view_as(plain_args[0])
    else:
        out = func(*plain_args, **plain_kwargs)
    if index is None:
        return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, out)
    if func._schema.is_mutable:
        written = {id(_inner(x)): x for x in tensors}
        stale = [x for x in ours if x.shape != x.inner.shape]
        if stale:
            raise NotImplementedError(
                f"{func} gave a tensor of {NAME} another shape: register it in {__file__}"
            )
    else:
        written = {}
    return tree_map(lambda x: _wrapped(x, index, written), out)


def _wrapped(x: Any, index: int, written: dict[int, torch.Tensor]) -> Any:
    if not isinstance(x, torch.Tensor):
        return x
    return written[id(x)] if id(x) in written else StandIn(x, index)


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, StandIn) else x


# --- registration ---------------------------------------------------------------------------------


class _Module:
    """What torch.standin answers. The names are torch.cuda's."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def device_count(self) -> int:
        return DEVICES.count

    def current_device(self) -> int:
        return DEVICES.current

    def set_device(self, device: Any) -> None:
        DEVICES.current = torch.device(device).index or 0 if not isinstance(device, int) else device

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, *([torch.bfloat16] if DEVICES.bfloat16 else [])]

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return DEVICES.bfloat16

    def memory_allocated(self, device: Any = None) -> int:
        return DEVICES.live[DEVICES.current if device is None else torch.device(device).index]

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        total = DEVICES.limit if DEVICES.limit is not None else 1 << 40
        return total - self.memory_allocated(device), total

    def synchronize(self, device: Any = None) -> None:
        pass

    def empty_cache(self) -> None:
        DEVICES.emptied += 1

    @contextlib.contextmanager
    def device(self, device: Any) -> Iterator[None]:
        before, DEVICES.current = DEVICES.current, torch.device(device).index
        yield
        DEVICES.current = before


class _Hook(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return True

    def has_primary_context(self, dev_id: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


class _Guard(torch._C._acc.DeviceGuard):
    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


# Operations that make a tensor from none, whose own kernels would write into an empty one of another size.
FACTORIES = (
    "empty", "empty_strided", "empty_permuted", "arange", "full", "zeros", "ones", "rand", "randn", "randint",
    "randperm", "eye", "linspace", "logspace", "scalar_tensor", "tril_indices", "triu_indices", "hann_window",
)  # fmt: skip
# Of operands that come without Python's key, as inside torch.tensor(…, device=…).
COPIES = (
    "_copy_from",
    "_to_copy",
    "copy_",
    "fill_.Scalar",
    "zero_",
    "set_.source_Tensor",
    "_local_scalar_dense",
)

_setup_privateuseone_for_python_backend(
    rename=NAME, backend_module=_Module(), hook=_Hook(), device_guard=_Guard()
)
_module = getattr(torch, NAME)
_library = torch.library.Library("aten", "IMPL")
_fallthrough = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")


def _kernel(func: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: run(func, args, kwargs)


# As on CUDA; the others compute in the type of their operands.
IN_HALF = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv2d", "scaled_dot_product_attention")
IN_FLOAT = ("layer_norm", "softmax.int", "log_softmax.int", "cross_entropy_loss", "nll_loss")


def _autocast_kernel(func: Any, dtype: torch.dtype | None) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        to = dtype or torch.get_autocast_dtype(NAME)
        with torch._C._ExcludeDispatchKeyGuard(
            torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
        ):
            floats = (torch.float32, torch.bfloat16, torch.float16)
            cast = lambda x: x.to(to) if isinstance(x, torch.Tensor) and x.dtype in floats else x  # noqa: E731
            return func(*tree_map(cast, args), **tree_map(cast, kwargs))

    return kernel


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet), overload or "default")


def _register() -> None:
    for name in FACTORIES:
        packet = getattr(aten, name)
        for overload in packet.overloads():
            func = getattr(packet, overload)
            names = [argument.name for argument in func._schema.arguments]
            if "device" in names and "generator" not in names and "names" not in names:
                _library.impl(func, _kernel(func), "PrivateUse1")
    for name in COPIES:
        _library.impl(_overload(name), _kernel(_overload(name)), "PrivateUse1")
    _fallthrough.fallback(torch.library.fallthrough_kernel)
    for name in IN_HALF:
        _library.impl(_overload(name), _autocast_kernel(_overload(name), None), "AutocastPrivateUse1")
    for name in IN_FLOAT:
        _library.impl(
            _overload(name), _autocast_kernel(_overload(name), torch.float32), "AutocastPrivateUse1"
        )


_register()
torch.accelerator.empty_cache = _module.empty_cache  # its own asserts an allocator in C++
torch.accelerator.synchronize = _module.synchronize


@contextlib.contextmanager
def devices(*, count: int = 2, limit: int | None = None, bfloat16: bool = True) -> Iterator[Devices]:
    """Devices of this kind while the block runs; `limit` is the memory of each in bytes."""
    before = DEVICES.count, DEVICES.limit, DEVICES.bfloat16
    DEVICES.count, DEVICES.limit, DEVICES.bfloat16 = count, limit, bfloat16
    try:
        yield DEVICES
    finally:
        DEVICES.count, DEVICES.limit, DEVICES.bfloat16 = before


@contextlib.contextmanager
def recorded() -> Iterator[Counter[str]]:
    """Device → how often an operation's operand lay there."""
    before, DEVICES.operands = DEVICES.operands, Counter()
    DEVICES.operations.clear()
    try:
        yield DEVICES.operands
    finally:
        DEVICES.operands = before
