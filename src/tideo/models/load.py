"""The name of a model → the model, by two tables of loaders: one by the name's prefix, one by files in the folder.

A name is one of `tideo list models`, a folder that training wrote, a Hugging Face id, `openai:NAME@URL` or `vllm:ID`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from tideo import registry
from tideo.bundled import ASSETS, located, names
from tideo.config import override, split_settings
from tideo.loading import Loading
from tideo.models.batching import Batching, unmasked
from tideo.models.fusion import FUSION_FILE, Fusion, FusionSettings
from tideo.models.grid.settings import GRID_FILE
from tideo.models.interface import BatchedModel, VideoModel
from tideo.models.selecting import check_selector
from tideo.models.topa.settings import SETTINGS_FILE, Settings
from tideo.types import UserError

Args = Sequence[str]  # key=value pairs of --model-args
Load = Callable[[], VideoModel]
OPTION = "--model-args"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_model(name: str, *, args: Args = ()) -> VideoModel:
    """Load the model of that name.

    `args` are key=value pairs for fields of the model's settings; a model that runs here also has those of `Loading`
    and `Batching`, a server those of `Calls`, one of vLLM those of `Batching` and of its engine. Raises UserError for
    an unknown name, with similar ones.
    """
    return find_model(name, args=args)()


def find_model(name: str, *, args: Args = ()) -> Load:
    """What loads the model of that name: all that can be checked without its weights is checked here, in no time.

    Raises UserError as `load_model`.
    """
    if name not in shipped() and name in registry.targets("models"):
        return _registered(name, args)
    for prefix, find in BY_PREFIX.items():
        if name.startswith(prefix):
            return find(name, args)
    folder, find_in = _folder(name)
    if find_in is not None:
        return find_in(folder, name, args)
    if folder.is_dir():
        raise UserError(
            f"{name} holds no model: {SETTINGS_FILE} is missing, and so is an image processor; "
            "give a folder that training wrote, or an image-text model"
        )
    raise UserError(
        registry.unknown(name, known=model_names(), what="model")
        + "; or give a folder that training wrote, a Hugging Face id, openai:NAME@URL or vllm:ID"
    )


def model_names() -> dict[str, str]:
    """name → a line about it, for models that ship with the package and those that other packages register."""
    ours = {name: _headline(ASSETS / name) for name in shipped()}
    return dict(sorted((registry.describe("models") | ours).items()))


def shipped() -> list[str]:
    """The bundled models that answer; the others are an encoder and a language model."""
    marks = (SETTINGS_FILE, FUSION_FILE, GRID_FILE)
    return [name for name in names() if any((ASSETS / name / mark).is_file() for mark in marks)]


def _folder(name: str) -> tuple[Path, Callable[[Path, str, Args], Load] | None]:
    """The folder of a model and its loader. A Hugging Face id that Tideo did not publish is an image-text model."""
    folder = Path(located(name) if name not in names() or name in shipped() else name)
    if folder.exists() or not _HUB_ID.fullmatch(name):
        return folder, _loader_of(folder)
    from tideo.models import hub

    ours = hub.fetched(name)
    return (ours, _loader_of(ours)) if ours is not None else (hub.grid_settings(name), _grid)


def folder_of(name: str) -> Path:
    """The folder of a model that has one; for an image-text model of the hub, that of its settings."""
    return _folder(name)[0]


def _loader_of(folder: Path) -> Callable[[Path, str, Args], Load] | None:
    return next((load for file, load in BY_FILE.items() if (folder / file).is_file()), None)


# --- loaders --------------------------------------------------------------------------------------


def _topa(folder: Path, name: str, args: Args) -> Load:
    loading, batching, rest = _of_local(args)
    settings = override(Settings.load(folder), rest, option=OPTION)
    located(settings.encoder, beside=folder)
    check_selector(settings)

    def load() -> VideoModel:
        from tideo.models.topa.model import ZeroShot

        model = ZeroShot.load(folder, name=str(Path(name)), settings=settings, loading=loading)
        model.batching = batching
        return model

    return load


def _grid(folder: Path, name: str, args: Args) -> Load:
    from tideo.models.grid.settings import GridSettings, name_of, recorded, with_panels

    loading, batching, rest = _of_local(args)
    settings = GridSettings.load(folder)  # which raises for another grid.json
    chosen = {*recorded(folder), *map(name_of, rest)}
    settings = override(settings, with_panels(rest, chosen=chosen), option=OPTION)
    settings.check_inputs()

    def load() -> VideoModel:
        from tideo.encoders.known_frames import KnownFrames
        from tideo.models.grid.vlm import GridVLM

        known = KnownFrames.load(folder)
        return GridVLM.load(
            located(name),
            name=name,
            settings=settings,
            chosen=chosen,
            loading=loading,
            batching=batching,
            known=known,
        )

    return load


def _fusion(folder: Path, name: str, args: Args) -> Load:
    of_loading, rest = split_settings(args, Loading)
    of_batching, rest = split_settings(rest, Batching)
    settings = override(FusionSettings.load(folder), rest, option=OPTION, unused=Fusion.unused)
    for model in settings.models:
        if model.startswith("openai:"):
            raise UserError(
                f"{name}: {model} replies in words, and a fusion adds likelihoods: fuse other models"
            )
    of_each = [*of_loading, *of_batching]
    loads = [
        find_model(str(folder / m) if (folder / m).is_dir() else m, args=of_each) for m in settings.models
    ]
    return lambda: Fusion([load() for load in loads], settings=settings, name=str(Path(name)))


def _server(name: str, args: Args) -> Load:
    from tideo.llms.interface import Calls
    from tideo.models.grid.server import Remote, ServerSettings

    of_calls, rest = split_settings(args, Calls)
    rest = [
        setting.replace("send", "look", 1) if setting.startswith("send=") else setting for setting in rest
    ]
    settings = override(ServerSettings(), rest, option=OPTION, unused=Remote.unused)
    settings.check_inputs()
    remote = Remote(name, settings=settings, calls=override(Calls(), of_calls, option=OPTION))
    return lambda: remote


def _vllm(name: str, args: Args) -> Load:
    from tideo.llms.vllm_library import PREFIX, check_keys, engine_options, library
    from tideo.models.grid.settings import GridSettings, name_of, recorded, with_panels

    model = name.removeprefix(PREFIX)
    if not model:
        raise UserError(f"model {name!r}: expected vllm:MODEL, as in vllm:Qwen/Qwen3-VL-8B-Instruct")
    folder, find = _folder(model)
    if find not in (None, _grid):
        raise UserError(
            f"{name}: vLLM runs image-text models, which {model} is none of: name it without vllm:"
        )
    of_batching, rest = split_settings(args, Batching)
    of_grid, rest = split_settings(rest, GridSettings)
    check_keys(rest, option=OPTION)
    settings = GridSettings.load(folder)
    chosen = {*recorded(folder), *map(name_of, of_grid)}
    settings = override(settings, with_panels(of_grid, chosen=chosen), option=OPTION)
    settings.check_inputs()
    batching = override(Batching(), of_batching, option=OPTION)
    library()
    ours = [field.name for kind in (GridSettings, Batching) for field in fields(kind)]
    options = engine_options(rest, option=OPTION, ours=ours)

    def load() -> VideoModel:
        from tideo.encoders.known_frames import KnownFrames
        from tideo.models.grid.vllm import GridVLLM

        known = KnownFrames.load(folder)
        return GridVLLM.start(
            located(model),
            name=name,
            settings=settings,
            chosen=chosen,
            options=options,
            batching=batching,
            known=known,
        )

    return load


# The start of a name → its loader.
BY_PREFIX: dict[str, Callable[[str, Args], Load]] = {"openai:": _server, "vllm:": _vllm}
# A file in a folder → its loader; the first file found decides.
BY_FILE: dict[str, Callable[[Path, str, Args], Load]] = {
    SETTINGS_FILE: _topa,
    FUSION_FILE: _fusion,
    "processor_config.json": _grid,
    "preprocessor_config.json": _grid,
}


def _registered(name: str, args: Args) -> Load:
    """Of another package, or ours: a function, which gets a `Loading` if it has a parameter of that name."""

    def load() -> VideoModel:
        make, rest, options = registry.load("models", name), args, {}
        if "loading" in inspect.signature(make).parameters:
            of_loading, rest = split_settings(rest, Loading)
            options = {"loading": override(Loading(), of_loading, option=OPTION)}
        model: VideoModel = make(**options)
        if isinstance(model, BatchedModel):
            of_batching, rest = split_settings(rest, Batching)
            model.batching = override(Batching(), of_batching, option=OPTION)
        model.settings = override(model.settings, rest, option=OPTION, unused=model.unused)
        return model

    return load


def _of_local(args: Args) -> tuple[Loading, Batching, Args]:
    """How a model is loaded, how its questions are batched, and the other arguments."""
    of_loading, rest = split_settings(args, Loading)
    of_batching, rest = split_settings(rest, Batching)
    loading = override(Loading(), of_loading, option=OPTION)
    batching = override(Batching(), of_batching, option=OPTION)
    batching.check(unmasked(loading.attn))
    return loading, batching, rest


def _headline(folder: Path) -> str:
    """The first sentence of a model's card, README.md."""
    text = (folder / "README.md").read_text(encoding="utf-8").partition("\n# ")[2].partition("\n")[2]
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."
