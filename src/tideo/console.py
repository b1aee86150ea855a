"""The process of a command: standard streams that may be closed, and signals that end it at any moment.

It needs nothing but Python, so that a command can be interrupted before its imports.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

# How a shell reports a process that a signal ended.
EXIT_CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
AGAIN_S = 5.0  # after so long the interruption is raised anew, in case that a library swallowed it
WAIT_S = 3.0  # how long a child process may take to end

_received: list[int] = []
Item = TypeVar("Item")


# --- streams ---------------------------------------------------------------------------------------


class _Pipe(io.FileIO):
    """A standard stream whose reader may leave: what it would have read is dropped, and the work goes on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            _drop(self.fileno())
            return len(data)


def _drop(stream: int) -> None:
    """Let nothing be written to this file descriptor any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream)
    os.close(null)


def open_streams() -> None:
    """Make standard out and standard error safe: a closed one is opened; a lost reader is no error."""
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:  # closed: the next file that is opened, such as a result's, would take its number
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, stream in (("stdout", 1), ("stderr", 2)):
        given = getattr(sys, name)
        lines = given is None or given.line_buffering or given.write_through or stream == 2
        text = io.TextIOWrapper(
            io.BufferedWriter(_Pipe(stream, "w", closefd=False)),
            encoding=given.encoding if given else "utf-8",
            errors="backslashreplace",
            line_buffering=lines,
        )
        setattr(sys, name, text)


def use_utf8() -> None:
    """Start again in Python's UTF-8 mode if the locale has ASCII alone: arguments and names of files hold any text."""
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def progress() -> Progress:
    """A bar on standard error where that is a terminal; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def tracked(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterable[Item]:
    """The items, `total` of them, with a bar on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, total=total, console=console, disable=not console.is_terminal)


# --- signals ---------------------------------------------------------------------------------------


def catch_signals() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, again and again until it is not swallowed.

    A signal that was ignored when the process started stays ignored, as after `nohup`.
    """
    for number in EXIT_CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    atexit.register(_ignore_signals)  # the first to be registered runs last
    # The process that removes the semaphores of one that was ended would report each of them.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    show = sys.unraisablehook

    def unraisable(error: sys.UnraisableHookArgs) -> None:
        # In a destructor or a callback Python reports the exception and goes on.
        if _received:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            show(error)

    sys.unraisablehook = unraisable


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number in EXIT_CODES:
        _received.append(number)
    if _received:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        raise KeyboardInterrupt


def interrupted() -> int | None:
    """The exit code for the first signal received; None if there was none. After the call no other one is raised."""
    if not _received:
        return None
    _ignore_signals()
    return EXIT_CODES[_received[0]]


def _ignore_signals() -> None:
    """For a process that ends: all is written, and Python would let a signal end it with another code."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (*EXIT_CODES, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def leave(code: int) -> NoReturn:
    """End the process. After a signal it waits for no thread, and ends the child processes too."""
    for name, stream in (("stdout", 1), ("stderr", 2)):
        try:
            getattr(sys, name).flush()
        except OSError:  # a full disk, which was reported
            _drop(stream)
    if not _received:
        gc.freeze()  # Python would look twice through all objects for cycles before it ends, for up to a second
        sys.exit(code)
    _end_children()
    os._exit(code)  # without waiting for threads, which may be in the middle of a request


def _end_children() -> None:
    if "multiprocessing" not in sys.modules:
        return
    import multiprocessing

    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    for child in children:
        child.join(WAIT_S)
        child.kill()
