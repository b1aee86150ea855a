"""Models on the Hugging Face Hub: upload a model with everything it needs, and find a model by its repository.

A TOPA model names its language model and its encoder. If a name is a Hugging Face id, it stays as it is; if it is a
bundled model, that model is uploaded too, to a folder of the repository.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tideo.bundled import ASSETS, check_hub, hub_errors
from tideo.encoders.known_frames import FILE as KNOWN_FRAMES
from tideo.models.fusion import FUSION_FILE
from tideo.models.grid.settings import GRID_FILE
from tideo.models.topa.settings import SETTINGS_FILE
from tideo.runs import RUN_FILE, read_run
from tideo.types import UserError

CARD = "README.md"
NAMES = (("config.json", "llm"), (SETTINGS_FILE, "encoder"))  # the fields of files that name another model
_LEFT_OUT = ("steps", "align", "imitate", "checkpoints")


def push(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Upload a model in one commit, to a repository that is created if it is missing; returns its address.

    The token is the one that `hf auth login` saved, or HF_TOKEN. Raises UserError if the folder is not a model, if it
    names another folder of this machine, and if the hub refuses the upload.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    files = collected(Path(folder))
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
    api = HfApi(library_name="tideo")
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(repo, operations, commit_message="Upload with tideo push")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the hub refuses {repo}: {reason}; see hf auth login") from error
    except hub_errors() as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the hub cannot be reached: {reason}; nothing was uploaded, try again") from error
    return str(address)


def collected(folder: Path) -> dict[str, Path | bytes]:
    """Path in the repository → file or content: the model, the bundled models that it names, and a model card."""
    if not any((folder / name).is_file() for name in (SETTINGS_FILE, GRID_FILE)):
        reason = " (a fusion names other models: upload those)" if (folder / FUSION_FILE).is_file() else ""
        raise UserError(
            f"{folder} is not a model of tideo{reason}: expected {SETTINGS_FILE} or {GRID_FILE}, as training writes it"
        )
    files: dict[str, Path | bytes] = dict(_files(folder))
    if (folder / SETTINGS_FILE).is_file():
        for file, field in NAMES:
            fields = json.loads((folder / file).read_text(encoding="utf-8"))
            named = folder / fields[field]
            if not named.is_dir():
                continue
            if ASSETS not in named.resolve().parents:
                raise UserError(
                    f"{folder / file} names {fields[field]}, a folder of this machine: replace it with the Hugging "
                    f"Face id of that {field}"
                )
            fields[field] = named.resolve().name
            files[file] = (json.dumps(fields, indent=2) + "\n").encode()
            files |= {f"{fields[field]}/{place}": path for place, path in _files(named.resolve()).items()}
    if CARD not in files:
        files[CARD] = card(folder).encode()
    return files


def _files(folder: Path) -> dict[str, Path]:
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        place.as_posix(): path
        for place, path in files.items()
        if place.parts[0] not in _LEFT_OUT and not any(part.startswith(".") for part in place.parts)
    }


def card(folder: Path) -> str:
    """A model card: how to use the model and, if it has a run.json, how it was trained."""
    is_grid = not (folder / SETTINGS_FILE).is_file()
    kind = "an image-text model that reads a video as a grid" if is_grid else "pre-aligned on text alone"
    head = ["---", "library_name: tideo", "pipeline_tag: video-text-to-text", "---", f"# {folder.name}", ""]
    body = [
        f"Answers questions about videos: {kind}. Made with tideo.",
        "",
        "```sh",
        'tideo ask video.mp4 "what does the man do after pouring tea?" --model OWNER/NAME',
        "```",
    ]
    if (folder / RUN_FILE).is_file():
        run = read_run(folder)
        fields: Mapping[str, Any] = {"recipe": run.recipe, "seed": run.seed, "versions": run.versions}
        body += ["", "How it was trained:", "", "```json", json.dumps(fields, indent=2), "```"]
    return "\n".join([*head, *body]) + "\n"


def fetched(repo: str) -> Path | None:
    """The local folder of a TOPA model on the hub, downloaded if need be; None if the repository holds no such model.

    Raises UserError as `check_hub` does.
    """
    check_hub(repo)
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        hf_hub_download(repo, SETTINGS_FILE)
        return Path(snapshot_download(repo))
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        return None


def grid_settings(repo: str) -> Path:
    """A local folder with the repository's grid.json and known frames; its name as a path if it has no grid.json."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(hf_hub_download(repo, GRID_FILE)).parent
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        return Path(repo)
    with contextlib.suppress(EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        hf_hub_download(repo, KNOWN_FRAMES)  # which not every model has
    return folder
