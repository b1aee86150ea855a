"""Where a computation runs: every operation's operands, on a GPU as on the stand-in for one (tests/accelerator.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Placed(TorchDispatchMode):
    """(operation, device) → calls, of the operations whose operands are all on this device; numbers do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor) and x.ndim]
        places = {str(x.device) for x in tensors}
        if len(places) == 1:
            self.calls[func.overloadpacket.__name__, *places] += 1
        return out
