"""A recipe of one's own, in a file outside the package.

A Python file has a function that returns the configuration: `my_recipe.py` with the function `my_recipe` or with one
function alone, or `my_recipe.py:NAME`. A YAML file names a `base` and what differs from it, nested or dotted:

    base: llava_1_5_7b_nextqa        # a recipe of the package, or a file beside this one
    path: nextqa/train.csv
    train: {lr: 1e-5}
    grid.rows: 3

Its values are read as those of `--set`: other paths than that of `base` begin at the working directory.
"""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml  # type: ignore[import-untyped]

from tideo import registry
from tideo.config import override
from tideo.types import UserError

PYTHON, YAML = (".py",), (".yaml", ".yml")


def is_file(recipe: str) -> bool:
    """Whether the name of a recipe is that of a file: it has the ending of one."""
    path, _ = _parts(recipe)
    return path.suffix in PYTHON + YAML


def name_of(recipe: str) -> str:
    """The name of a recipe's run: the function's or the file's, without folder and ending."""
    path, function = _parts(recipe)
    return function or (path.stem if is_file(recipe) else recipe)


def load_recipe(recipe: str, *, chain: tuple[Path, ...] = ()) -> Any:
    """The configuration of a recipe: of the package by its name, or of a file. `chain` are the files that led here.

    Raises UserError, with file and line, for whatever is wrong in the file.
    """
    if not is_file(recipe):
        return registry.load("recipes", recipe)()
    path, function = _parts(recipe)
    if not path.is_file():
        raise UserError(f"recipe {path}: there is no such file")
    if path.resolve() in chain:
        raise UserError(
            f"recipe {path}: its bases lead back to itself; give one of them a recipe of the package"
        )
    if path.suffix in PYTHON:
        return _of_python(path, function)
    if function:
        raise UserError(f"recipe {recipe}: only a Python file has functions; give {path} alone")
    return _of_yaml(path, chain=(*chain, path.resolve()))


def _parts(recipe: str) -> tuple[Path, str]:
    head, colon, function = recipe.rpartition(":")
    return (Path(head), function) if colon and head.endswith(PYTHON + YAML) else (Path(recipe), "")


# --- Python ---------------------------------------------------------------------------------------


def _of_python(path: Path, wanted: str) -> Any:
    module = _imported(path)
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    names = [wanted] if wanted else [path.stem] if path.stem in own else list(own)
    if wanted and wanted not in own:
        raise UserError(f"recipe {path}: {registry.unknown(wanted, known=own, what='function')}")
    if len(names) != 1:
        found = f"the functions {', '.join(own)}" if own else "no function"
        hint = f"; name one, as in {path}:{names[0]}" if own else ""
        raise UserError(f"recipe {path}: it defines {found}, expected one that returns the recipe{hint}")
    (name,) = names
    try:
        inspect.signature(own[name]).bind()
    except TypeError as error:
        raise UserError(f"recipe {path}: {name} must be callable without arguments ({error})") from error
    return _run(path, own[name])


def _imported(path: Path) -> ModuleType:
    name = f"_tideo_recipe_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    _run(path, lambda: spec.loader.exec_module(module))
    return module


def _run(path: Path, code: Any) -> Any:
    """Call code of the user's. Raises UserError with file, line and error where it fails."""
    try:
        return code()
    except UserError as error:
        raise UserError(f"recipe {path}: {error}") from error
    except SyntaxError as error:
        raise UserError(f"recipe {path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        calls = traceback.extract_tb(error.__traceback__)
        lines = [call.lineno for call in calls if Path(call.filename).resolve() == path.resolve()]
        where = f", line {lines[-1]}" if lines else ""
        raise UserError(f"recipe {path}{where}: {type(error).__name__}: {error}") from error


# --- YAML -----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Every value as text, as `--set` has it. A key that comes twice is an error, and so is an alias.

    An alias may hold itself, and a few lines of them a million values.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"*{event.anchor} is an alias: write the value out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} comes twice", problem_mark=mark)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(?:~|null|)$"), ["~", "n", ""])


def _of_yaml(path: Path, *, chain: tuple[Path, ...]) -> Any:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"recipe {path}{where}: it is no YAML: {problem}") from error
    if not isinstance(content, Mapping) or not isinstance(base := content.get("base"), str):
        raise UserError(
            f"recipe {path}: expected `base: NAME`, a recipe of the package or a file, and the fields that differ"
        )
    if is_file(base):
        base = str(path.parent / base)
    settings = list(_settings({key: value for key, value in content.items() if key != "base"}, path=path))
    return override(load_recipe(base, chain=chain), settings, option=f"recipe {path}:")


def _settings(content: Mapping[Any, Any], *, path: Path, prefix: str = "") -> Iterator[str]:
    """The "dotted.key=value" settings of nested mappings."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _settings(value, path=path, prefix=f"{name}.")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            yield f"{name}={','.join(value)}"
        elif value is None or isinstance(value, str):
            yield f"{name}={'none' if value is None else value}"
        else:
            raise UserError(
                f"recipe {path}: {name}: expected a value or a list of values; write a Python file instead"
            )
