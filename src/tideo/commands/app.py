"""The commands of `tideo.commands` under their names: what the help shows, and the options of the root."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from tideo import __version__
from tideo.commands import ask as asking
from tideo.commands import encode as encoding
from tideo.commands import evaluate as evaluation
from tideo.commands import machine, textvid
from tideo.commands import search as searching
from tideo.commands import serve as serving
from tideo.commands import train as training
from tideo.commands.logs import set_up_logs

NARROW = 80  # columns below which the boxes of the help would have to cut names


def _group(about: str, **commands: Callable[..., None]) -> typer.Typer:
    group = typer.Typer(help=about)
    group.callback()(lambda: None)  # a command alone in its group would lose its name
    for name, command in commands.items():
        group.command(name, short_help=_about(command))(command)
    return group


def _about(command: Callable[..., None]) -> str:
    """What a list of commands says; left to Typer, it would be cut at the width of the terminal."""
    return (command.__doc__ or "").partition("\n")[0]


PURPOSE = "Questions about long videos, answered by language models that were never trained on video."
# heading of the help → name → command, or commands
COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Ask": {
        "demo": asking.demo,
        "ask": asking.ask,
        "frames": asking.frames,
        "grid": asking.grid,
        "search": searching.search,
        "serve": serving.serve,
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
        "encode": encoding.encode,
        "dollhouse": _group("The dollhouse, a procedural household world.", make=asking.make),
    },
    "Models and machine": {
        "list": machine.list_names,
        "import": _group("Published checkpoints as models of tideo.", topa=training.topa),
        "push": training.push,
        "doctor": machine.doctor,
    },
}

app = typer.Typer(pretty_exceptions_enable=False, help=PURPOSE)
for heading, commands in COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=heading, short_help=command.info.help)
        else:
            app.command(name, rich_help_panel=heading, short_help=_about(command))(command)


def call(args: Sequence[str]) -> Any:
    """Run one command. Returns what it returns, or the code of a `typer.Exit`; any other exception is raised."""
    columns = shutil.get_terminal_size().columns
    narrow = columns < NARROW
    app.rich_markup_mode = None if narrow else "rich"
    context: dict[str, Any] = {"terminal_width": columns} if narrow else {}
    return app(args=list(args), prog_name="tideo", standalone_mode=False, **context)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tideo {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also show what other libraries log and warn of.")
    ] = False,
) -> None:
    if verbose:
        set_up_logs(verbose=True)
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
