"""`tideo list`, `doctor`: what a name can be, and what works on this machine."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tideo.commands.options import ModelArgs, finish, pairs
from tideo.types import UserError


def list_names(
    kind: Literal["models", "benchmarks", "samplers", "recipes"],
) -> None:
    """List the names of one kind."""
    from tideo.models.load import model_names
    from tideo.registry import describe

    for name, doc in (model_names() if kind == "models" else describe(kind)).items():
        print(f"{name:20} {doc}".rstrip())


def doctor(
    models: Annotated[
        list[str] | None, typer.Option("--model", metavar="M", help="Also say what this model would use.")
    ] = None,
    model_args: ModelArgs = "",
) -> None:
    """Check what works on this machine, and what models would use."""
    from tideo.doctor import doctor as run_checks

    if model_args and not models:
        raise UserError("--model-args is of the models that --model names: give --model, or leave it out")
    checks = run_checks(models or (), args=pairs(model_args))
    for check in checks:
        sign = {True: "ok", False: "NO", None: "--"}[check.ok]
        print(f"{sign}  {check.area:8} {check.name:14} {check.detail}")
    results = [check.ok for check in checks if check.ok is not None]
    finish(results.count(False), len(results), "checks")
