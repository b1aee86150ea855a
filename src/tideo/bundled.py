"""Names of models that ship with the package, and the folders in which they lie."""

from __future__ import annotations

from pathlib import Path

from tideo.types import UserError

ASSETS = Path(__file__).parent / "assets"


def bundled(name: str) -> Path:
    """The folder of a model that ships with the package. Raises UserError where none has that name."""
    path = ASSETS / name
    if not path.is_dir():
        there = ", ".join(sorted(p.name for p in ASSETS.glob("*") if p.is_dir())) or "none"
        raise UserError(f"no model {name!r} ships with this tideo; there: {there}")
    return path
