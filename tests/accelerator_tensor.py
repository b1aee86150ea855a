"""The tensors of the stand-in accelerator: each wraps one of the CPU, with which every operation computes.

https://github.com/pytorch/pytorch/blob/main/test/test_privateuseone_python_backend.py shows the hooks of torch.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "standin"
CPU = torch.device("cpu")
aten = torch.ops.aten


class Devices:
    """What is set of the stand-in devices, and how many bytes lie on each."""

    def __init__(self) -> None:
        self.count, self.current, self.bfloat16, self.float64 = 0, 0, True, True
        self.limit: int | None = None
        self.live: Counter[int] = Counter()
        self.peak: Counter[int] = Counter()
        self.emptied = 0  # calls of torch.accelerator.empty_cache
        self.lock = threading.RLock()

    def take(self, index: int, num_bytes: int) -> None:
        with self.lock:
            if self.limit is not None and self.live[index] + num_bytes > self.limit:
                raise torch.OutOfMemoryError(
                    f"{NAME} out of memory. Tried to allocate {num_bytes} bytes. Device {index} has a total capacity "
                    f"of {self.limit} bytes of which {self.limit - self.live[index]} are free."
                )
            self.live[index] += num_bytes
            self.peak[index] = max(self.peak[index], self.live[index])

    def give_back(self, index: int, num_bytes: int) -> None:
        with self.lock:
            self.live[index] -= num_bytes


DEVICES = Devices()


class Block:
    """The memory of one storage. It is given back when the last tensor that lies in it is gone."""

    def __init__(self, index: int, num_bytes: int) -> None:
        DEVICES.take(index, num_bytes)
        weakref.finalize(self, DEVICES.give_back, index, num_bytes)


_blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()  # by address


def _block(inner: torch.Tensor, index: int) -> Block | None:
    storage = inner.untyped_storage()
    if not storage.nbytes():
        return None
    block = _blocks.get(storage.data_ptr())
    if block is None:
        block = _blocks[storage.data_ptr()] = Block(index, storage.nbytes())
    return block


class StandIn(torch.Tensor):
    """A tensor of the device `standin:index`; `inner` is the tensor of the CPU that holds its values."""

    inner: torch.Tensor
    block: Block | None
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor, index: int) -> StandIn:
        if inner.dtype == torch.bfloat16 and not DEVICES.bfloat16:
            raise RuntimeError(f"{NAME}:{index} has no bfloat16")
        if inner.dtype == torch.float64 and not DEVICES.float64:
            raise TypeError(f"Cannot convert a tensor of {NAME}:{index} to float64")
        with torch.inference_mode(inner.is_inference()):  # a view of a parameter is none, even in that mode
            outer = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.size(),
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=torch.device(NAME, index),
            )
        outer.inner, outer.block = inner, _block(inner, index)
        return outer

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

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

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()  # by whose address libraries find tied weights

    def __reduce_ex__(self, protocol: Any) -> Any:
        rebuild = torch._utils._rebuild_device_tensor_from_cpu_tensor
        return rebuild, (self.inner.detach(), self.dtype, str(self.device), self.requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copy = self.detach().clone()
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if is_parameter else copy
        return memo[id(self)]

    # With these two Module.to swaps such tensors into its parameters, so that tied weights stay tied.
    def __tensor_flatten__(self) -> tuple[list[str], int]:
        return ["inner"], self.device.index

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], index: int, size: Any, stride: Any) -> StandIn:
        return StandIn(inner["inner"], index)


# What may have operands on two devices, as on CUDA: copies; where it is INDEXED, indices that lie on the CPU.
ACROSS = {
    *(aten.copy_.default, aten._to_copy.default, aten._copy_from.default, aten.set_.source_Tensor),
}
INDEXED = {
    *(aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put.default, aten.index_put_.default),
    aten._index_put_impl_.default,
}


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU; its result on the device of the operands, or on the one that it names."""
    flat, layout = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, StandIn)]
    if func not in ACROSS:
        _check_one_device(func, ours if func in INDEXED else tensors)
    named = next((x for x in flat if isinstance(x, torch.device)), None)
    target = named or (ours[0].device if ours else torch.device(NAME))
    index = DEVICES.current if target.index is None else target.index
    if target.type == NAME and not 0 <= index < DEVICES.count:
        raise RuntimeError(f"{NAME} error: invalid device ordinal {index} of {DEVICES.count}")
    if func is aten._copy_from.default:
        _inner(args[1]).copy_(_inner(args[0]))
        return args[1]
    plain = [_inner(x) for x in flat]
    if target.type == NAME:
        plain = [CPU if isinstance(x, torch.device) else x for x in plain]
    plain_args, plain_kwargs = tree_unflatten(plain, layout)
    plain_kwargs.pop("pin_memory", None)
    if func in (aten.detach.default, aten.alias.default):
        out = plain_args[0].view_as(plain_args[0])
    else:
        out = func(*plain_args, **plain_kwargs)
    if target.type != NAME:
        return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, out)
    written = {id(_inner(x)): x for x in tensors} if func._schema.is_mutable else {}
    if written and any(x.shape != x.inner.shape for x in ours):
        raise NotImplementedError(
            f"{func} changed the shape of a tensor of {NAME}: register it in accelerator.py"
        )
    return tree_map(lambda x: _wrapped(x, index, written), out)


def _check_one_device(func: Any, tensors: list[torch.Tensor]) -> None:
    """As CUDA, which takes a number of the CPU for an operand, but no other tensor of it."""
    places = {str(x.device) for x in tensors if isinstance(x, StandIn) or x.ndim}
    if len(places) > 1:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(sorted(places))}! (when checking operands of {func})"
        )


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, StandIn) else x


def _wrapped(x: Any, index: int, written: dict[int, torch.Tensor]) -> Any:
    if not isinstance(x, torch.Tensor):
        return x
    return written[id(x)] if id(x) in written else StandIn(x, index)
