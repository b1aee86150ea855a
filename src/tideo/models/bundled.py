"""Names → models: those that ship with the package, and the folders that training writes."""

from __future__ import annotations

from pathlib import Path

from tideo import registry
from tideo.models.settings import VideoModel
from tideo.types import UserError

ASSETS = Path(__file__).parents[1] / "assets"


def load_model(name: str) -> VideoModel:
    """The model of that name: one of `tideo list models`, or a folder that training wrote.

    Raises UserError where it is neither, telling the near names.
    """
    if name in registry.targets("models"):
        model: VideoModel = registry.load("models", name)()
        return model
    if Path(name).is_dir():
        from tideo.models.zero_shot import ZeroShot

        return ZeroShot.load(name)
    raise UserError(
        registry.unknown(name, known=registry.targets("models"), what="model")
        + "; or give a folder that training wrote"
    )


def bundled(name: str) -> Path:
    """The folder of a model that ships with the package. Raises UserError where none has that name."""
    path = ASSETS / name
    if not path.is_dir():
        there = ", ".join(sorted(p.name for p in ASSETS.glob("*") if p.is_dir())) or "none"
        raise UserError(f"no model {name!r} ships with this tideo; there: {there}")
    return path


def dollhouse_topa() -> VideoModel:
    """The tiny language model, pre-aligned on dollhouse text alone, answering about video."""
    from tideo.models.zero_shot import ZeroShot

    return ZeroShot.load(bundled("dollhouse-topa"), name="dollhouse-topa")


def blind() -> VideoModel:
    """The language model of dollhouse-topa without the video: what the questions give away."""
    from tideo.models.blind import Blind

    return Blind.load(bundled("dollhouse-topa"))
