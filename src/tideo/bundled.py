"""The name of a model → its folder: one that ships with the package, one of the user's, or none: it is the hub's."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from tideo.registry import targets
from tideo.types import UserError

log = logging.getLogger(__name__)
ASSETS = Path(__file__).parent / "assets"
RUNS = "runs"  # where the recipes write
PROBE_S = 5.0  # how long the hub may take to say whether it has a model


def names() -> list[str]:
    """The names of the models that ship with the package, sorted."""
    return sorted(path.name for path in ASSETS.glob("*") if path.is_dir())


def located(name: str | Path, *, beside: Path | None = None) -> str:
    """The folder of the model `name`; a name without a folder is returned as it is, since it may be a Hugging Face id.

    A folder relative to `beside` (the folder of the file that has the name in it) comes first, then the models that
    ship with the package, then a folder of the working directory. Raises UserError for a path without a folder, which
    the hub would take for an id.
    """
    name = str(name)
    if beside is not None and name and (beside / name).is_dir():
        return str(beside / name)
    if name in names():
        return str(ASSETS / name)
    if not Path(name).is_dir() and is_path(name):
        raise UserError(_no_folder(name))
    return name


def is_path(name: str) -> bool:
    """Whether a name has the form of a path, where a Hugging Face id is OWNER/NAME."""
    first, slash, rest = name.partition("/")
    if first in (".", "..", "~", RUNS) or name.startswith(("/", "~")):
        return True
    return bool(slash) and ":" not in first and ("/" in rest or not rest or Path(name).parent.is_dir())


def _no_folder(name: str) -> str:
    if Path(name).exists():
        return f"{name} is a file: give the folder of the model"
    if name.startswith(f"{RUNS}/"):
        return f"{name} is missing: a recipe writes it, so run that first (tideo list recipes)"
    return f"there is no folder {name}: give one that holds a model, a bundled name or a Hugging Face id"


def model_source(name: str, *, failure: str, of_hub: bool = True) -> str:
    """What a library loads the model `name` from: its folder, or its id, which is on the hub if that is where it loads.

    Raises UserError as `located` and `check_hub` do, with `failure` before their message.
    """
    try:
        source = located(name)
        if of_hub and not Path(source).is_dir():
            check_hub(source)
    except UserError as error:
        raise UserError(f"{failure}: {error}") from error
    return source


def check_encoder(name: str) -> None:
    """Raises UserError, as `model_source`, for a dual encoder that cannot be had."""
    if name not in targets("encoders"):
        of_hub = ":" not in name  # such as open_clip:ARCH/PRETRAINED
        model_source(name, failure=f"cannot load the dual encoder {name}", of_hub=of_hub)


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises where it has no connection or no answer.

    Its own error is one of the HTTP library, whose name depends on the version, and an OSError.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception))


@cache
def check_hub(repo: str) -> None:
    """Raises UserError if a model cannot be had from the Hugging Face Hub; by one request, before any download.

    What was downloaded before counts, where the hub cannot be reached: then no other request is made in this process,
    each of which would be repeated for minutes.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    downloaded = any(Path(constants.HF_HUB_CACHE).glob(f"models--{repo.replace('/', '--')}/snapshots/*"))
    if constants.is_offline_mode():
        if not downloaded:
            raise UserError(
                f"{repo} was not downloaded and HF_HUB_OFFLINE is set: give a folder, or unset it to download the model"
            )
        return
    try:
        get_hf_file_metadata(hf_hub_url(repo, "config.json"), timeout=PROBE_S)
    except EntryNotFoundError:
        return
    except GatedRepoError as error:
        raise UserError(
            f"{repo} is on the hub for those who have asked for it: ask on its page, then log in with hf auth login"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"there is no model {repo} on the hub, nor a folder of that name: correct the name; for a private one log "
            "in with hf auth login"
        ) from error
    except hub_errors() as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if not downloaded:
            raise UserError(
                f"the hub cannot be reached ({reason}) and {repo} was not downloaded before: give a folder, or set "
                "HF_HUB_OFFLINE=1 to use what was downloaded"
            ) from error
        log.warning("the hub cannot be reached (%s): %s is used as it was downloaded before", reason, repo)
        constants.HF_HUB_OFFLINE = True
