"""Names for what comes in kinds: name → "module:object", imported on use.

Benchmarks and recipes are found by their path: benchmarks/NAME.py or recipes/NAME.py that defines the function NAME.
Another package adds to a kind through an entry point in the group `tideo.<kind>`:

    [project.entry-points."tideo.samplers"]
    every_second = "their_package.samplers:every_second"

A name of ours cannot be replaced that way: a result that names a model, a sampler or a benchmark
must mean the same on every machine.
"""

from __future__ import annotations

import ast
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from tideo.types import UserError

# Kinds whose names are files: name → FOLDER/NAME.py below this one.
BY_PATH = ("benchmarks", "recipes")
# The names of the other kinds. Those without a name of ours are for other packages alone.
BUILTIN: dict[str, dict[str, str]] = {
    "models": {},
    "samplers": {
        "aks": "tideo.video.selectors:aks",
        "bolt": "tideo.video.selectors:bolt",
        "coverage": "tideo.video.selectors:coverage",
        "fps": "tideo.video.samplers:fps",
        "keyframes": "tideo.video.samplers:keyframes",
        "middle": "tideo.video.samplers:middle",
        "question": "tideo.video.selectors:question",
        "scenes": "tideo.video.scenes:scenes",
        "uniform": "tideo.video.samplers:uniform",
    },
    "encoders": {},  # () -> DualEncoder, or what has its id, dim, encode_text and encode_images
    "tideos": {},
    "conversations": {},
    "frames": {},
}
KINDS = (*BY_PATH, *BUILTIN)

# module → the extra of ours that installs it
EXTRAS: dict[str, str] = {
    "bitsandbytes": "bitsandbytes",
    "datasketch": "textvid",
    "deepspeed": "deepspeed",
    "faiss": "faiss",
    "fastapi": "serve",
    "flash_attn": "flash_attn",
    "fsspec": "ray",
    "gcsfs": "cloud",
    "open_clip": "open_clip",
    "num2words": "vlm",
    "openai": "openai",
    "pycocoevalcap": "captions",
    "pandas": "ray",
    "prometheus_client": "serve",
    "pyarrow": "ray",
    "ray": "ray",
    "s3fs": "cloud",
    "starlette": "serve",
    "tensorboard": "tensorboard",
    "torchvision": "vlm",
    "trackio": "trackio",
    "uvicorn": "serve",
    "vllm": "vllm",
    "wandb": "wandb",
}


def targets(kind: str) -> dict[str, str]:
    """name → "module:object" of one kind, ours and what other packages add, sorted by name. Imports none.

    Raises UserError for an unknown kind.
    """
    if kind not in KINDS:
        raise UserError(unknown(kind, known=KINDS, what="kind"))
    points = sorted(entry_points(group=f"tideo.{kind}"), key=_is_ours)  # ours last, so that they count
    added = {point.name: point.value for point in points}
    return dict(sorted((added | builtin(kind)).items()))


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "tideo"


def builtin(kind: str) -> dict[str, str]:
    """name → "module:object" of one kind, ours alone."""
    return files_of(kind) if kind in BY_PATH else BUILTIN[kind]


@cache
def files_of(folder: str) -> dict[str, str]:
    """NAME → "tideo.FOLDER.NAME:NAME" of every NAME.py that defines the function NAME. Imports none."""
    return {
        path.stem: f"tideo.{folder}.{path.stem}:{path.stem}"
        for path in sorted(Path(__file__).with_name(folder).glob("*.py"))
        if any(
            isinstance(node, ast.FunctionDef) and node.name == path.stem
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }


def load(kind: str, name: str) -> Any:
    """Import and return the object of that name.

    Raises UserError for an unknown kind or name, with the near ones, and for a missing optional
    dependency, with the extra that installs it.
    """
    module, _, attribute = _target(kind, name).partition(":")
    return getattr(require(module), attribute)


def module_of(kind: str, name: str) -> ModuleType:
    """The module that defines the object of that name, with what else it defines. Raises as `load`."""
    return require(_target(kind, name).partition(":")[0])


def _target(kind: str, name: str) -> str:
    # Names of ours win, and to read every package's entry points takes longer than to open a video.
    if kind in KINDS and name in (own := builtin(kind)):
        return own[name]
    known = targets(kind)
    if name not in known:
        raise UserError(unknown(name, known=known, what=kind.removesuffix("s")))
    return known[name]


def check(kind: str, name: str) -> None:
    """Raises UserError for an unknown kind or name, with the near ones. Imports nothing."""
    _target(kind, name)


def check_path(path: str | None, *, field: str, kind: str | None = None) -> None:
    """Raises UserError for a path in a field that is not there, unless it is None or a name of that kind."""
    names = targets(kind) if kind is not None else {}
    if path is None or path in names or Path(path).exists():
        return
    registered = f", nor a registered name ({', '.join(names)})" if names else ""
    raise UserError(
        f"{field}={path}: there is no such file or folder{registered}; set {field} to one that is there"
    )


def require(module: str) -> ModuleType:
    """Import a module that may need an extra, or raise UserError with the command that installs the extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        raise UserError(
            f"{missing} is not installed: run pip install 'tideo[{EXTRAS[missing]}]' to use it"
        ) from error


def describe(kind: str) -> dict[str, str]:
    """name → the first line of the object's docstring, read from its source without importing it.

    So a list is quick, and complete even if an optional dependency is missing.
    """
    return {name: _first_doc_line(target) for name, target in targets(kind).items()}


def unknown(name: str, *, known: Any, what: str) -> str:
    """The message for a name that is not in `known`: the near matches, or all names if none is near."""
    near = get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"


def _first_doc_line(target: str) -> str:
    module, _, attribute = target.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    own = [ast.get_docstring(n) for n in tree.body if isinstance(n, documented) and n.name == attribute]
    doc = next(filter(None, [*own, ast.get_docstring(tree)]), "")
    return doc.partition("\n")[0]
