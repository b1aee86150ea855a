"""The command line: the commands of `tideo.commands` under their names, and how errors are reported.

Exit codes: 0 success; 1 a bug in tideo, with its traceback; 2 wrong input, reported in one line; 3 finished, but some
items failed, with their number; 130 interrupted. Results go to standard out, everything else to standard error.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from safetensors import SafetensorError
from typer.core import TyperGroup
from typer.exceptions import TyperException

from tideo import __version__
from tideo.commands import ask as asking
from tideo.commands import evaluate as evaluation
from tideo.commands import machine, textvid
from tideo.commands import train as training
from tideo.types import UserError

DONE, USER_INPUT, INTERRUPTED = 0, 2, 130


class _App(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        # Typer's exit code for a closed pipe is 1, which here means a bug. A reader that stops early, such as
        # `head`, got what it wanted.
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            raise typer.Exit(DONE) from None


def _group(about: str, **commands: Callable[..., None]) -> typer.Typer:
    group = typer.Typer(help=about)
    group.callback()(lambda: None)  # a command alone in its group would lose its name
    for name, command in commands.items():
        group.command(name)(command)
    return group


PURPOSE = "Questions about long videos, answered by language models that were never trained on video."
# heading of the help → name → command, or commands
COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Ask": {
        "demo": asking.demo,
        "ask": asking.ask,
        "frames": asking.frames,
        "grid": asking.grid,
    },
    "Evaluate": {
        "eval": evaluation.evaluate,
        "fuse": evaluation.fuse,
        "report": evaluation.report,
        "export": evaluation.export,
    },
    "Train": {
        "prealign": training.prealign,
        "train": training.train,
        "finetune": training.finetune,
    },
    "Data": {
        "textvid": _group(
            "Textual videos: write them with a language model, check them.",
            generate=textvid.generate,
            check=textvid.check,
        ),
        "encode": textvid.encode,
        "dollhouse": _group("The dollhouse, a procedural household world.", make=asking.make),
    },
    "Models and machine": {
        "list": machine.list_names,
        "import": _group("Published checkpoints as models of tideo.", topa=training.topa),
        "push": training.push,
        "doctor": machine.doctor,
    },
}

app = typer.Typer(cls=_App, pretty_exceptions_enable=False, help=PURPOSE)
for heading, commands in COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=heading)
        else:
            app.command(name, rich_help_panel=heading)(command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> int:
    """Run one command, report errors as described above, and return the exit code."""
    _quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # The hub's library, whose name depends on its version, logs a line per request.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        code = app(args=list(args), prog_name="tideo", standalone_mode=False)
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "")  # a prefix that Pydantic adds
        return _fail(f"{message} {_help_hint(error)}")
    except UserError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _fail(f"{error.filename or 'output'}: {error.strerror}; free some space and run this again")
    except SafetensorError as error:
        if not any(f"os error {number}" in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise
        return _fail("the disk is full in the middle of writing weights; free some space and run this again")
    return _fail("interrupted", code=INTERRUPTED) if code == INTERRUPTED else code or DONE


def _fail(message: str, *, code: int = USER_INPUT) -> int:
    """Print the message in one line, even if a file's name contains a line break."""
    print("tideo:", " ".join(message.split()), file=sys.stderr)
    return code


def _help_hint(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"(see {context.command_path} --help)" if context else ""


def _quiet_libraries() -> None:
    # The libraries read these variables when they are imported, which happens later, inside the commands.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # otherwise it warns at every fork
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar in a log is a line per step
    # Warnings about calls between libraries are of no use to a user of tideo.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tideo {__version__}")
        raise typer.Exit(DONE)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
