"""The start of a command: importing torch and transformers, and loading a model, in less time."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def starting() -> Iterator[None]:
    """Inside, nothing is looked for among the million objects that imports and loading make, since they stay.

    Python's search for cycles of objects that nothing else holds took a seventh of the start of `tideo ask`.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        with _deferred("scipy.optimize"):
            yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _deferred(name: str) -> Iterator[None]:
    """Inside, `from name import function` gives a function that imports the module when it is called.

    transformers imports scipy.optimize with every model, for losses of object detectors, which nothing here calls.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module = _Deferred(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is module:
            del sys.modules[name]


def end_deferring() -> None:
    """From here on every module is itself, for a package that makes classes of what it imports, as vllm does."""
    for name in [name for name, module in sys.modules.items() if isinstance(module, _Deferred)]:
        del sys.modules[name]


class _Deferred(ModuleType):
    def __getattr__(self, attribute: str) -> Callable[..., Any]:
        if attribute.startswith("__"):  # what the import system and inspect ask every module for
            raise AttributeError(attribute)
        name = self.__name__

        def function(*args: Any, **kwargs: Any) -> Any:
            if isinstance(sys.modules.get(name), _Deferred):
                del sys.modules[name]
            return getattr(importlib.import_module(name), attribute)(*args, **kwargs)

        return function
