"""Which exceptions are the user's input, and the line that says so."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from typer.exceptions import TyperException

from tideo.store.files import FULL
from tideo.types import UserError


def check_text(args: Sequence[str]) -> None:
    """Raises UserError for an argument that no file can be named by and no text can be read from."""
    for arg in args:
        if "\0" in arg:
            raise UserError(f"the argument {arg!r} holds a NUL character: leave it out")
        try:
            arg.encode()
        except UnicodeEncodeError:
            shown = arg.encode("utf-8", "backslashreplace").decode()
            raise UserError(
                f"the argument '{shown}' is not text in UTF-8: type it anew; a file with such a name needs another one"
            ) from None


def explained(error: BaseException) -> str | None:
    """What the user did and can do, for an exception that comes from input or the machine; None for a bug of ours."""
    if isinstance(error, TyperException):
        message = error.format_message().replace("Value error, ", "")  # a prefix that Pydantic adds
        context = getattr(error, "ctx", None)
        return f"{message} (see {context.command_path} --help)" if context else message
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        if error.errno in FULL:
            return f"{error.filename or 'output'}: {error.strerror}; free some space and run this again"
        if _of_the_user(error.filename):
            return f"{os.fsdecode(error.filename)}: {error.strerror}; give another path, or change this one"
    if isinstance(error, SafetensorError) and any(f"os error {number}" in str(error) for number in FULL):
        return "the disk is full in the middle of writing weights; free some space and run this again"
    return None


def _of_the_user(path: object) -> bool:
    """Whether it is a file of the user's: not of Python's own, where an error would be a broken installation."""
    if not isinstance(path, str | bytes):
        return False
    where = Path(os.fsdecode(path)).absolute()
    installed = [str(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not any(where.is_relative_to(folder) for folder in [*installed, str(Path(__file__).parents[1])])
