"""What transformers loads: all of a model's weights or one line that says why not, and no code of a repository."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tideo.registry import require
from tideo.types import UserError

# What its loaders raise for a folder or a repository that is incomplete, damaged or of another kind.
FAULTS = (OSError, ValueError, LookupError, ImportError, RuntimeError, TypeError, SafetensorError)
# Without it transformers asks at the terminal, and waits, whether to run the code of a repository.
OWN_CODE = {"trust_remote_code": False}
_LFS = b"version https://git-lfs.github.com/spec/"


def reason(error: BaseException, source: str) -> str:
    """In one line why a folder or a Hugging Face id could not be loaded, and what to do about it."""
    if pointer := _pointer(Path(source)):
        return f"{pointer} is a pointer of Git LFS and not the file itself: run `git lfs pull` in its folder"
    text = str(error).strip().partition("\n")[0][:300]
    if "custom code" in text:
        return "it needs code of its own, which is not run: give a model that transformers itself has"
    if isinstance(error, SafetensorError):
        return f"a file of its weights is damaged or incomplete ({text}): get it anew"
    return f"{text} is missing" if isinstance(error, KeyError) else text


def check_packages(error: BaseException) -> None:
    """Raises UserError where a model could not be loaded because a package that its processor needs is missing.

    Also where torchvision is installed for another torch: then transformers can import no image processor at all.
    """
    said = str(error).lower()
    if "torchvision" in said and find_spec("torchvision") is None:  # of Qwen-VL's video processor
        require("torchvision")
    if "num2words" in said and find_spec("num2words") is None:  # of SmolVLM's
        require("num2words")
    if find_spec("torchvision") is None:
        return
    try:
        import_module("torchvision")
    except FAULTS as fault:
        raise UserError(
            f"torchvision {version('torchvision')} does not work with torch {version('torch')} ({fault}): install the "
            "two together, as PyTorch's page says, or run pip uninstall torchvision if no model of yours needs it"
        ) from error


def check_whole(loading_info: Mapping[str, Any], name: str) -> None:
    """Raises UserError where weights were missing or of another shape: transformers fills them with random numbers.

    `loading_info` is what `from_pretrained` returns with output_loading_info, called with ignore_mismatched_sizes.
    """
    if missing := sorted(loading_info["missing_keys"]):
        raise UserError(f"{name} lacks {len(missing)} of its weights, the first {missing[0]}: get it anew")
    if other := sorted(loading_info["mismatched_keys"]):
        key, stored, expected = other[0]
        raise UserError(
            f"{name}: {key} is {list(stored)}, expected {list(expected)}: "
            "its weights and config.json do not belong together"
        )


def _pointer(folder: Path) -> Path | None:
    """The first file of the folder that Git LFS has not fetched."""
    if not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_LFS)) == _LFS:
                    return path
    return None
