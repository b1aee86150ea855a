"""What several commands share: their parameters, the model behind a name, the exit code of failures."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tideo.cluster import Cluster
from tideo.config import override
from tideo.loading import Loading
from tideo.store.files import check_writable
from tideo.types import UserError

WITH_FAILURES = 3  # the exit code of a command that finished, but failed on some of its items


def finish(num_failed: int, num: int, what: str) -> None:
    """Report how many items failed and exit with the code for that; return if none did."""
    if num_failed:
        print(f"tideo: {num_failed} of {num} {what} failed", file=sys.stderr)
        raise typer.Exit(WITH_FAILURES)


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """What libraries print inside goes to standard error, as standard out is the result of the command."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def print_result(result: object) -> None:
    """Print on standard out; of several processes of one run, as `accelerate launch` starts them, the first does."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(result)


def print_json(result: object) -> None:
    """Print JSON on one line. Where standard out does not hold any text, it has escapes: Python's would spoil it."""
    escaped = not str(sys.stdout.encoding).lower().startswith("utf")
    print(json.dumps(result, ensure_ascii=escaped))


def pairs(args: str) -> list[str]:
    """The key=value pairs of an option such as --model-args."""
    return [pair for pair in args.split(",") if pair.strip()]


def loading_of(args: str, *, option: str) -> Loading:
    """How a model is loaded, from the value of an option such as --encoder-args."""
    return override(Loading(), pairs(args), option=option)


def new_folder(path: Path | None) -> Path | None:
    """Raises UserError for a folder that cannot be written, before the command does any work."""
    if path is not None:
        check_writable(path)
    return path


def features_folder(path: Path | None) -> Path | None:
    """As `new_folder`; one that holds features serves those, and need not be writable."""
    return path if path is None or (path / "store.json").exists() else new_folder(path)


def new_file(path: Path | None) -> Path | None:
    """Raises UserError for a file whose folder cannot be written, before the command does any work."""
    if path is not None:
        check_writable(path.parent)
    return path


def video_file(path: str) -> str:
    """Raises UserError for a video that is not there."""
    if not os.path.exists(path):
        raise UserError(f"video {path}: there is no such file; give the path of a video file")
    return path


def seconds(text: str) -> float:
    """A time on the command line. Raises ValueError unless it is finite and not negative."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{text} is not a time in seconds")
    return value


def cluster_of(
    ray: str | None, decode_cpus: int | None = None, encode_gpus: float | None = None
) -> Cluster | None:
    """The cluster of --ray, which answers. Raises UserError for settings of its pools without it."""
    given = {"--decode-cpus": decode_cpus, "--encode-gpus": encode_gpus}
    if ray is None:
        for option, value in given.items():
            if value is not None:
                raise UserError(
                    f"{option} is for a cluster: give --ray ADDRESS, or --ray local, or leave it out"
                )
        return None
    cluster = Cluster(address=ray, decode_cpus=decode_cpus, encode_gpus=encode_gpus)
    cluster.check()
    return cluster


VideoFile = Annotated[str, typer.Argument(metavar="VIDEO", help="A video file.", callback=video_file)]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.", file_okay=False, callback=new_folder)]
OutOrRuns = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Run directory; a new one below runs/ if left out.",
        file_okay=False,
        callback=new_folder,
    ),
]
Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="See tideo list recipes; or a file of yours: FILE.py, FILE.py:FUNCTION or FILE.yaml.",
    ),
]
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
        help="A bundled name (tideo list models), a folder that training wrote, a Hugging Face id, openai:NAME@URL or "
        "vllm:ID.",
    ),
]
ModelArgs = Annotated[
    str,
    typer.Option(
        metavar="KEY=VALUE,...",
        help="Other settings of the model, as in rows=3,cols=3 or dtype=bf16 or load_4bit=true.",
    ),
]
Features = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="DIR",
        help="Keeps the pools that a sampler such as bolt chooses from; tideo encode --pool writes them too.",
        file_okay=False,
        callback=features_folder,
    ),
]
EncoderArgs = Annotated[
    str,
    typer.Option(metavar="KEY=VALUE,...", help="How the encoder is loaded, as in device=cuda:1,dtype=bf16."),
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Encode on a Ray cluster; `local` starts one here."),
]
EncodeGpus = Annotated[
    float | None,
    typer.Option(min=0, metavar="F", help="With --ray: GPUs of each encoder, as 0.5 or 1; 0: the CPU."),
]
