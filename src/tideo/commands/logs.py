"""What a command writes on standard error besides its errors: our log and warnings, and of other libraries nothing."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

# Libraries with loggers of their own read these when they are imported, which happens later, inside the commands.
VERBOSITY = ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY", "DATASETS_VERBOSITY")


class _Lines(logging.StreamHandler[Any]):
    """The handler of the command line."""


def set_up_logs(*, verbose: bool = False) -> None:
    """Lines of our own log and warnings on standard error; of other libraries too with `verbose`."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, _Lines)]
    lines = _Lines(sys.stderr)
    lines.setFormatter(logging.Formatter("%(name)s: %(message)s" if verbose else "%(message)s"))
    if not verbose:
        lines.addFilter(lambda record: _is_ours(record.name))
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    for variable in VERBOSITY:
        if verbose:
            os.environ[variable] = "info"
        else:
            os.environ.setdefault(variable, "critical")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # otherwise it warns at every fork
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar in a log is a line per step
    if verbose:
        warnings.simplefilter("default")
        warnings.showwarning = _show_whole
        return
    # A warning of ours points to a place of ours; those about calls between libraries are of no use to a user.
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", module=r"tideo(\.|$)")
    warnings.showwarning = _show


def _is_ours(logger: str) -> bool:
    return logger.partition(".")[0] == "tideo"


def _show(message: Warning | str, *where: Any, **stream: Any) -> None:
    print("tideo:", " ".join(str(message).split()), file=sys.stderr)


def _show_whole(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **stream: Any
) -> None:
    print(warnings.formatwarning(message, category, filename, lineno), end="", file=sys.stderr)
