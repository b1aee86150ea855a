"""Names → models: those that ship with the package, folders that training writes, image-text models of the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from tideo import registry
from tideo.bundled import bundled
from tideo.config import override
from tideo.models.fusion import FUSION_FILE, Fusion, FusionSettings
from tideo.models.interface import VideoModel
from tideo.models.topa.settings import SETTINGS_FILE
from tideo.types import UserError

Seen = TypeVar("Seen")
How = TypeVar("How")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_model(name: str, *, args: Sequence[str] = ()) -> VideoModel:
    """The model of that name: `tideo list models`, a folder that training wrote, a Hugging Face id, `openai:NAME@URL`.

    `args` are key=value pairs: fields of the model's settings and, for an image-text model, of `Loading`, for a server,
    of `Calls`.
    Raises UserError where it is none of these, telling the near names.
    """
    if name in registry.targets("models"):
        return _with_settings(registry.load("models", name)(), args)
    if name.startswith("openai:"):
        from tideo.llms.interface import Calls
        from tideo.models.grid.server import Remote
        from tideo.models.grid.settings import GridSettings

        settings, calls = _two(args, GridSettings(), Calls())
        return Remote(name, settings=settings, calls=calls)
    folder = Path(name)
    if (folder / SETTINGS_FILE).is_file():
        from tideo.models.topa.model import ZeroShot

        return _with_settings(ZeroShot.load(folder), args)
    if (folder / FUSION_FILE).is_file():
        return _fusion(folder, args)
    on_hub = not folder.exists() and _HUB_ID.fullmatch(name) is not None
    if on_hub:
        from tideo.models import hub

        if (ours := hub.fetched(name)) is not None:
            from tideo.models.topa.model import ZeroShot

            return _with_settings(ZeroShot.load(ours, name=name), args)
        folder = hub.grid_settings(name)
    is_vlm = any((folder / file).is_file() for file in ("processor_config.json", "preprocessor_config.json"))
    if is_vlm or on_hub:
        from tideo.models.grid.loading import Loading
        from tideo.models.grid.settings import GridSettings
        from tideo.models.grid.vlm import GridVLM

        settings, loading = _two(args, GridSettings.load(folder), Loading())
        return GridVLM.load(name, settings=settings, loading=loading)
    if folder.is_dir():
        raise UserError(
            f"{name} is no model of tideo: {SETTINGS_FILE} is missing, and so is an image processor; "
            "give a folder that training wrote, or an image-text model"
        )
    raise UserError(
        registry.unknown(name, known=registry.targets("models"), what="model")
        + "; or give a folder that training wrote, a Hugging Face id, or openai:NAME@URL"
    )


def _two(args: Sequence[str], settings: Seen, other: How) -> tuple[Seen, How]:
    """Both with what `args` say of them."""
    names = {field.name for field in fields(other)}  # type: ignore[arg-type]
    of_other = [a for a in args if a.partition("=")[0].strip() in names]
    rest = [a for a in args if a not in of_other]
    return override(settings, rest, option="--model-args"), override(other, of_other, option="--model-args")


def _fusion(folder: Path, args: Sequence[str], *, name: str | None = None) -> VideoModel:
    settings = override(FusionSettings.load(folder), args, option="--model-args")
    models = [load_model(str(folder / m) if (folder / m).is_dir() else m) for m in settings.models]
    return Fusion(models, settings=settings, name=name or str(folder))


def _with_settings(model: VideoModel, args: Sequence[str]) -> VideoModel:
    model.settings = override(model.settings, args, option="--model-args")
    return model


def dollhouse_topa() -> VideoModel:
    """The tiny language model, pre-aligned on dollhouse text alone, answering about video."""
    from tideo.models.topa.model import ZeroShot

    return ZeroShot.load(bundled("dollhouse-topa"), name="dollhouse-topa")


def dollhouse_grid() -> VideoModel:
    """A tiny LLaVA, finetuned on grids of dollhouse episodes."""
    from tideo.models.grid.vlm import GridVLM

    return GridVLM.load(bundled("dollhouse-grid"), name="dollhouse-grid")


def dollhouse_fusion() -> VideoModel:
    """dollhouse-topa and dollhouse-grid together, weights fitted on validation questions."""
    return _fusion(bundled("dollhouse-fusion"), (), name="dollhouse-fusion")


def blind() -> VideoModel:
    """The language model of dollhouse-topa without the video: what the questions give away."""
    from tideo.models.topa.blind import Blind

    return Blind.load(bundled("dollhouse-topa"))
