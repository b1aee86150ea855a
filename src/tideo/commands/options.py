"""What several commands share: their parameters, the model behind a name, the exit code of failures."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tideo.models.interface import VideoModel

WITH_FAILURES = 3  # the exit code of a command that finished, but failed on some of its items


def finish(num_failed: int, num: int, what: str) -> None:
    """Report how many items failed and exit with the code for that; return if none did."""
    if num_failed:
        print(f"tideo: {num_failed} of {num} {what} failed", file=sys.stderr)
        raise typer.Exit(WITH_FAILURES)


def video_model(name: str, args: str) -> VideoModel:
    """The model that --model and --model-args describe."""
    from tideo.models.load import load_model

    return load_model(name, args=[pair for pair in args.split(",") if pair])


def seconds(text: str) -> float:
    """A time on the command line. Raises ValueError unless it is finite and not negative."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{text} is not a time in seconds")
    return value


VideoFile = Annotated[str, typer.Argument(metavar="VIDEO", help="A video file.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.", file_okay=False)]
OutOrRuns = Annotated[
    Path | None,
    typer.Option("--out", help="Run directory; a new one below runs/ if left out.", file_okay=False),
]
Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="See tideo list recipes.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of the recipe, as in train.lr=1e-4."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")]
Start = Annotated[float | None, typer.Option(parser=seconds, metavar="S")]
End = Annotated[float | None, typer.Option(parser=seconds, metavar="S")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="M",
        help="A bundled name (tideo list models), a folder that training wrote, or a Hugging Face id.",
    ),
]
ModelArgs = Annotated[
    str,
    typer.Option(
        metavar="KEY=VALUE,...",
        help="Other settings of the model, as in rows=3,cols=3,dtype=bfloat16,load_4bit=true.",
    ),
]
