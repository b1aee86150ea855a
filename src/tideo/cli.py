"""The command line: the commands of `tideo.commands` under their names, and how errors are told.

Exit codes: 0 done; 1 a fault of ours, with its traceback; 2 the user's input, told in one line; 3 done
with failures, their number told; 130 interrupted. Results go to standard out, the rest to standard error.
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
        # Typer answers a closed pipe with 1, which here would mean a fault of ours. A reader that has
        # left, as `head` does, has what it wanted.
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
    """Run one command, tell errors as the contract says, and return the exit code."""
    _quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for client in ("httpx", "httpx2"):  # of the hub's library, by its version: a line for every request
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        code = app(args=list(args), prog_name="tideo", standalone_mode=False)
    except TyperException as error:
        told = error.format_message().replace("Value error, ", "")  # Pydantic's words, not ours
        return _tell(f"{told} {_where_help_is(error)}")
    except UserError as error:
        return _tell(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _tell(f"{error.filename or 'output'}: {error.strerror}; free some space and run this again")
    except SafetensorError as error:
        if not any(f"os error {number}" in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise
        return _tell("the disk is full in the middle of writing weights; free some space and run this again")
    return _tell("interrupted", code=INTERRUPTED) if code == INTERRUPTED else code or DONE


def _tell(message: str, *, code: int = USER_INPUT) -> int:
    print("tideo:", " ".join(message.split()), file=sys.stderr)  # one line, whatever a file's name holds
    return code


def _where_help_is(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"(see {context.command_path} --help)" if context else ""


def _quiet_libraries() -> None:
    # Read by the libraries when they are imported, which happens later, inside the commands.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns at every fork
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar in a log is a line per step
    # What one library thinks of another's calls is for their authors.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")


def _version(asked: bool) -> None:
    if asked:
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
