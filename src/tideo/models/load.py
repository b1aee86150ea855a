"""The name of a model → the model, by two tables of loaders: one by the name's prefix, one by files in the folder.

A name is one of `tideo list models`, a folder that training wrote, a Hugging Face id, or `openai:NAME@URL`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tideo import registry
from tideo.bundled import ASSETS, located, names
from tideo.config import override, split_settings
from tideo.models.fusion import FUSION_FILE, Fusion, FusionSettings
from tideo.models.grid.settings import GRID_FILE
from tideo.models.interface import VideoModel
from tideo.models.topa.settings import SETTINGS_FILE
from tideo.types import UserError

Args = Sequence[str]  # key=value pairs of --model-args
Settings = TypeVar("Settings")
Other = TypeVar("Other")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_model(name: str, *, args: Args = ()) -> VideoModel:
    """Load the model of that name.

    `args` are key=value pairs for fields of the model's settings; an image-text model also has those of `Loading`,
    a server those of `Calls`. Raises UserError for an unknown name, with similar ones.
    """
    if name not in _shipped() and name in registry.targets("models"):
        return _with_settings(registry.load("models", name)(), args)
    for prefix, load in BY_PREFIX.items():
        if name.startswith(prefix):
            return load(name, args)
    folder, load_folder = _folder(name)
    if load_folder is not None:
        return load_folder(folder, name, args)
    if folder.is_dir():
        raise UserError(
            f"{name} holds no model: {SETTINGS_FILE} is missing, and so is an image processor; "
            "give a folder that training wrote, or an image-text model"
        )
    raise UserError(
        registry.unknown(name, known=model_names(), what="model")
        + "; or give a folder that training wrote, a Hugging Face id, or openai:NAME@URL"
    )


def model_names() -> dict[str, str]:
    """name → a line about it, for models that ship with the package and those that other packages register."""
    shipped = {name: _headline(ASSETS / name) for name in _shipped()}
    return dict(sorted((registry.describe("models") | shipped).items()))


def _shipped() -> list[str]:
    """The bundled models that answer; the others are an encoder and a language model."""
    marks = (SETTINGS_FILE, FUSION_FILE, GRID_FILE)
    return [name for name in names() if any((ASSETS / name / mark).is_file() for mark in marks)]


def _folder(name: str) -> tuple[Path, Callable[[Path, str, Args], VideoModel] | None]:
    """The folder of a model and its loader. A Hugging Face id that Tideo did not publish is an image-text model."""
    folder = Path(located(name) if name not in names() or name in _shipped() else name)
    if folder.exists() or not _HUB_ID.fullmatch(name):
        return folder, _loader_of(folder)
    from tideo.models import hub

    ours = hub.fetched(name)
    return (ours, _loader_of(ours)) if ours is not None else (hub.grid_settings(name), _grid)


def _loader_of(folder: Path) -> Callable[[Path, str, Args], VideoModel] | None:
    return next((load for file, load in BY_FILE.items() if (folder / file).is_file()), None)


# --- loaders --------------------------------------------------------------------------------------


def _topa(folder: Path, name: str, args: Args) -> VideoModel:
    from tideo.models.topa.model import ZeroShot
    from tideo.models.topa.settings import Settings

    settings = _changed(Settings.load(folder), args, ZeroShot)
    return ZeroShot.load(folder, name=str(Path(name)), settings=settings)


def _grid(folder: Path, name: str, args: Args) -> VideoModel:
    from tideo.encoders.known_frames import KnownFrames
    from tideo.models.grid.loading import Loading
    from tideo.models.grid.settings import GridSettings
    from tideo.models.grid.vlm import GridVLM

    settings, loading = _changed_both(args, GridSettings.load(folder), Loading(), GridVLM)
    known = KnownFrames.load(folder)
    return GridVLM.load(located(name), name=name, settings=settings, loading=loading, known=known)


def _fusion(folder: Path, name: str, args: Args) -> VideoModel:
    settings = _changed(FusionSettings.load(folder), args, Fusion)
    models = [load_model(str(folder / m) if (folder / m).is_dir() else m) for m in settings.models]
    return Fusion(models, settings=settings, name=str(Path(name)))


def _server(name: str, args: Args) -> VideoModel:
    from tideo.llms.interface import Calls
    from tideo.models.grid.server import Remote, ServerSettings

    settings, calls = _changed_both(args, ServerSettings(), Calls(), Remote)
    return Remote(name, settings=settings, calls=calls)


# The start of a name → its loader.
BY_PREFIX: dict[str, Callable[[str, Args], VideoModel]] = {"openai:": _server}
# A file in a folder → its loader; the first file found decides.
BY_FILE: dict[str, Callable[[Path, str, Args], VideoModel]] = {
    SETTINGS_FILE: _topa,
    FUSION_FILE: _fusion,
    "processor_config.json": _grid,
    "preprocessor_config.json": _grid,
}


def _with_settings(model: VideoModel, args: Args) -> VideoModel:
    model.settings = _changed(model.settings, args, type(model))
    return model


def _changed(settings: Settings, args: Args, model: type[VideoModel]) -> Settings:
    """The settings with `args`. Raises UserError for one that changes nothing for this kind of model."""
    return override(settings, args, option="--model-args", unused=model.unused)


def _changed_both(
    args: Args, settings: Settings, other: Other, model: type[VideoModel]
) -> tuple[Settings, Other]:
    """Both dataclasses, each with those of `args` that name its fields."""
    of_other, rest = split_settings(args, type(other))
    return _changed(settings, rest, model), override(other, of_other, option="--model-args")


def _headline(folder: Path) -> str:
    """The first sentence of a model's card, README.md."""
    text = (folder / "README.md").read_text(encoding="utf-8").partition("\n# ")[2].partition("\n")[2]
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."
