"""`tideo list`, `doctor`: what there is, and what works here."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tideo.commands.options import finish


def list_names(
    kind: Annotated[
        Literal["models", "benchmarks", "samplers", "recipes"], typer.Argument(show_default=False)
    ],
) -> None:
    """List what a name can be."""
    from tideo.models.load import model_names
    from tideo.registry import describe

    for name, doc in (model_names() if kind == "models" else describe(kind)).items():
        print(f"{name:20} {doc}".rstrip())
    for other in {"benchmarks": ("captions",)}.get(kind, ()):
        for name, doc in describe(other).items():
            print(f"{name:20} {doc}".rstrip())


def doctor() -> None:
    """Tell what works on this machine."""
    from tideo.doctor import doctor as look

    checks = look()
    for check in checks:
        sign = {True: "ok", False: "NO", None: "--"}[check.ok]
        print(f"{sign}  {check.area:8} {check.name:14} {check.told}")
    judged = [check.ok for check in checks if check.ok is not None]
    finish(judged.count(False), len(judged), "checks")
