"""`tideo list`, `doctor`: what a name can be, and what works on this machine."""

from __future__ import annotations

from typing import Literal

from tideo.commands.options import finish


def list_names(
    kind: Literal["models", "benchmarks", "samplers", "recipes"],
) -> None:
    """List the names of one kind."""
    from tideo.models.load import model_names
    from tideo.registry import describe

    for name, doc in (model_names() if kind == "models" else describe(kind)).items():
        print(f"{name:20} {doc}".rstrip())


def doctor() -> None:
    """Check what works on this machine."""
    from tideo.doctor import doctor as run_checks

    checks = run_checks()
    for check in checks:
        sign = {True: "ok", False: "NO", None: "--"}[check.ok]
        print(f"{sign}  {check.area:8} {check.name:14} {check.detail}")
    results = [check.ok for check in checks if check.ok is not None]
    finish(results.count(False), len(results), "checks")
