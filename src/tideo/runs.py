"""run.json: the recipe of a run, the versions and the command, and whether two runs have the same recipe."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tideo
from tideo.config import from_plain
from tideo.store.files import atomic_write_text, content_key
from tideo.types import UserError

RUN_FILE = "run.json"
PACKAGES = ("torch", "transformers", "peft", "av", "numpy")  # what a number may depend on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The contents of `run.json`. `commit` is None outside a checkout and ends in -dirty if files differ from it.

    `files` maps each file that the recipe names to a key of its content when the run was begun.
    """

    recipe: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    seed: int | None
    command: str
    files: dict[str, str] = dataclasses.field(default_factory=dict)


# --- run.json -------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Versions of Python, Tideo and the packages that a number may depend on, read without importing them."""
    ours = {"python": platform.python_version(), "tideo": tideo.__version__}
    return ours | {name: metadata.version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """The commit of this source, with "-dirty" behind it if files differ; None if the source is in no repository.

    It is that of the package's own folder, not of the working directory, which may be another project.
    """
    here = Path(__file__).parent
    try:
        # An installed package can lie inside somebody's repository without being part of it.
        _git(here, "ls-files", "--error-unmatch", "runs.py")
        return _git(here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *args: str) -> str:
    # GIT_DIR, which a surrounding hook sets, would name another repository.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.check_output(
        ["git", *args], cwd=folder, env=env, text=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def write_run(out: str | Path, *, recipe: Any, seed: int | None = None, command: str | None = None) -> Path:
    """Write OUT/run.json: the resolved recipe (a dataclass or a mapping), versions, commit, seed, command.

    The write is atomic: a reader finds the old file or the new one. Returns the path.
    """
    plain = dataclasses.asdict(recipe) if dataclasses.is_dataclass(recipe) else dict(recipe)  # type: ignore[arg-type]
    if command is None:
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    run = Run(
        recipe=plain,
        versions=versions(),
        commit=git_commit(),
        seed=seed,
        command=command,
        files=dict(_files(plain)),
    )
    path = Path(out) / RUN_FILE
    text = json.dumps(dataclasses.asdict(run), indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write_text(path, text + "\n")
    return path


def same_recipe(out: str | Path, recipe: Any) -> None:
    """Raises UserError if OUT/run.json holds another recipe than this dataclass, or if a file that it names changed.

    A field that only one of the two recipes has comes from another version of tideo and does not count. A recipe, or a
    dataclass in it, may map field names of earlier versions to those of today in `renamed`, and take over in `as_begun`
    what earlier versions recorded without using it.
    """
    run = read_run(out)
    there = _with_current_names(run.recipe, recipe)
    if hasattr(recipe, "as_begun"):
        recipe = recipe.as_begun(there)
    here = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if different := list(_differences(there, here)):
        what = ", ".join(f"{name} is {old} there and {new} here" for name, old, new in different[:3])
        raise UserError(f"{out} is a run of another recipe ({what}): set it so, or give another --out")
    for path, key in _files(here):
        if run.files.get(path, key) != key:
            raise UserError(
                f"{path} has changed since {out} was begun: give another --out, or restore the file"
            )


def _files(plain: Any) -> Iterator[tuple[str, str]]:
    """The files that a plain recipe names, with a key of the content of each."""
    if isinstance(plain, Mapping | list | tuple):
        for value in plain.values() if isinstance(plain, Mapping) else plain:
            yield from _files(value)
    elif isinstance(plain, str) and _is_file(plain) and (key := content_key(plain)) is not None:
        yield plain, key


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or with a null character
        return False


def _with_current_names(plain: Any, recipe: Any) -> Any:
    """The plain recipe of a run.json with the field names of today, in nested recipes and lists of them too."""
    if isinstance(plain, list) and isinstance(recipe, tuple) and len(plain) == len(recipe):
        return [_with_current_names(value, item) for value, item in zip(plain, recipe, strict=True)]
    if not isinstance(plain, dict):
        return plain
    renamed: Mapping[str, str] = getattr(recipe, "renamed", {})
    current: dict[str, Any] = {renamed.get(name, name): value for name, value in plain.items()}
    return {name: _with_current_names(value, getattr(recipe, name, None)) for name, value in current.items()}


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, old value, new value) of each field that both recipes have and that differs, nested ones included."""
    for name in (name for name in here if name in there):
        old, new = there[name], here[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from ((f"{name}.{inner}", *values) for inner, *values in _differences(old, new))
        elif old != new:
            yield name, old, new


def read_run(out: str | Path) -> Run:
    """Read OUT/run.json. Raises UserError if it is missing, is not JSON or lacks a key."""
    path = Path(out) / RUN_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return from_plain(Run, data)
    except OSError as error:
        raise UserError(f"{out} is no run directory: {path} cannot be read ({error.strerror})") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} is no record of a run: {error}; do the run again") from error
