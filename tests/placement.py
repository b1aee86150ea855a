"""Where a computation runs: every operation's operands, on a GPU as on the stand-in for one (tests/accelerator.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tideo.types import Answer, Sample, Video

# Operations that make a tensor of what Python or NumPy holds, move it, or look at it otherwise. No work of a model.
MOVES = {
    *(
        "lift_fresh",
        "detach",
        "detach_",
        "alias",
        "_to_copy",
        "to",
        "copy_",
        "select",
        "slice",
        "view",
        "reshape",
    ),
    *("unsqueeze", "squeeze", "stack", "cat", "resolve_conj", "resolve_neg", "empty", "unbind", "clone", "t"),
    *("expand", "permute", "arange", "_unsafe_view", "split"),
}


class Operations(TorchDispatchMode):
    """(operation, device) → calls, of operations on floating-point tensors that all lie on one device.

    A number lies on none. A processor's counting of its patches, in integers, is no work of a model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor) and x.ndim]
        places = {str(x.device) for x in tensors}
        if len(places) == 1 and any(x.is_floating_point() for x in tensors):
            self.calls[func.overloadpacket.__name__, *places] += 1
        return out


@contextmanager
def all_on(device: str, *, at_least: int = 20) -> Iterator[None]:
    """Asserts that all operations of the block which compute something did so on this device."""
    with Operations() as operations:
        yield
    computed = {call: num for call, num in operations.calls.items() if call[0] not in MOVES}
    elsewhere = {call: num for call, num in computed.items() if call[1] != device}
    assert not elsewhere, f"not on {device}: {elsewhere}"
    assert sum(computed.values()) >= at_least, f"nothing is computed on {device}: {computed}"


def lies_on(device: str, *modules: torch.nn.Module) -> bool:
    """Whether all parameters and buffers do, of modules that have some."""
    tensors = [x for module in modules for x in (*module.parameters(), *module.buffers())]
    return bool(tensors) and {str(x.device) for x in tensors} == {device}


SAMPLES = (
    ("what is the man doing?", ("pouring tea", "reading a book", "sleeping")),
    ("what does he do then?", ("washing dishes", "a book")),
    ("what happens?", ()),
)


def answers(model: Any, video: Video) -> list[Answer]:
    """To two questions with options and an open one."""
    samples = [Sample(id=q, video=video, question=q, options=options) for q, options in SAMPLES]
    return model.answer(video, samples, seen=model.look(video))


def tolerance(device: str) -> float:
    """Of a log-likelihood in float32: a GPU convolves with 10 bits (TF32), and adds in another order."""
    return 5e-2 if device.startswith("cuda") else 1e-3


def assert_same(ours: list[Answer], expected: list[Answer], *, atol: float) -> None:
    """Log-likelihoods within `atol`, and if it is small, the same words."""
    for a, b in zip(ours, expected, strict=True):
        assert a.error is None, a.error
        np.testing.assert_allclose(a.loglikelihoods, b.loglikelihoods, atol=atol)
        assert a.text == b.text or atol > 1e-2
