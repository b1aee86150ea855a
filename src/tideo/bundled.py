"""The name of a model → its folder: one that ships with the package, or one of the user's."""

from __future__ import annotations

from pathlib import Path

from tideo.types import UserError

ASSETS = Path(__file__).parent / "assets"
RUNS = "runs"  # where the recipes write


def names() -> list[str]:
    """The names of the models that ship with the package, sorted."""
    return sorted(path.name for path in ASSETS.glob("*") if path.is_dir())


def located(name: str | Path, *, beside: Path | None = None) -> str:
    """The folder of the model `name`; a name without a folder is returned as it is, since it may be a Hugging Face id.

    A folder relative to `beside` (the folder of the file that has the name in it) comes first, then the models that
    ship with the package, then a folder of the working directory.
    """
    name = str(name)
    if beside is not None and name and (beside / name).is_dir():
        return str(beside / name)
    if name.startswith(f"{RUNS}/") and not Path(name).is_dir():  # the hub would take it for an id
        raise UserError(f"{name} is missing: a recipe writes it, so run that first (tideo list recipes)")
    return str(ASSETS / name) if name in names() else name
