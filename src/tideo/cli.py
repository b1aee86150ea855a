"""The command line as a process: it calls a command of `tideo.commands` and reports how that ended.

Exit codes: 0 success; 1 a bug in tideo, with its traceback; 2 wrong input, reported in one line; 3 finished, but some
items failed, with their number; 130 interrupted, 143 terminated. Results go to standard out, everything else to
standard error. All else is imported when it is needed, so that an interruption at any moment is one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from tideo import console

DONE, USER_INPUT, INTERRUPTED = 0, 2, 130


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    code = 1  # for an exception that is a bug of ours
    try:
        console.catch_signals()
        if args is None:
            console.use_utf8()
        console.open_streams()
        code = run(sys.argv[1:] if args is None else args)
    except KeyboardInterrupt:  # at the first or last moment
        code = _interrupted()
    console.leave(code)


def run(args: Sequence[str]) -> int:
    """Run one command, report errors as described above, and return the exit code. A bug of ours is raised."""
    try:
        code = _call(args)
        sys.stdout.flush()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or console.interrupted():
            return _interrupted()
        from tideo.commands.errors import explained

        message = explained(error)
        if message is None:
            raise
        return _fail(message)
    # Typer turns an interruption into its exit code.
    return _interrupted() if code == INTERRUPTED or console.interrupted() else code or DONE


def _call(args: Sequence[str]) -> Any:
    from tideo.commands.logs import set_up_logs

    set_up_logs()
    from tideo.commands.app import call
    from tideo.commands.errors import check_text
    from tideo.processes import Processes

    check_text(args)
    code = call(args)
    Processes.launched().leave()
    return code


def _interrupted() -> int:
    code = console.interrupted() or INTERRUPTED
    return _fail("interrupted" if code == INTERRUPTED else "terminated", code=code)


def _fail(message: str, *, code: int = USER_INPUT) -> int:
    """Print the message in one line, even if a file's name contains a line break."""
    print("tideo:", " ".join(message.split()), file=sys.stderr)
    return code


def __getattr__(name: str) -> Any:
    """`app`, the Typer application, is imported when it is asked for."""
    if name != "app":
        raise AttributeError(name)
    from tideo.commands.app import app

    return app
