"""Imports run one way: a room may use the rooms of the steps before it, and not its siblings."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from tideo.registry import EXTRAS

SOURCE = Path(__file__).parents[1] / "src"
# Each line is a step; a room is the first name below `tideo`.
STEPS = (
    ("types", "__init__"),
    ("registry", "config", "store", "scale", "precision"),
    ("video", "dollhouse", "llms", "encoders"),
    ("textvid", "benchmarks", "models"),
    ("train", "evaluate"),
    ("lab", "serve", "recipes", "demo", "doctor"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
STEP_OF = {room: step for step, rooms in enumerate(STEPS) for room in rooms}
HOSTS = {"lmms_eval": "tideo.evaluate.lmms"}  # what loads us as a plug-in: the module that may import it
MODULES = sorted((SOURCE / "tideo").rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def imported(tree: ast.AST, *, module: str) -> set[str]:
    """Every absolute name that the source imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str | None:
    """The room of an absolute name: `tideo.video.decode.frames` → video; None if it is not ours."""
    top, _, rest = name.partition(".")
    if top != "tideo":
        return None
    first = rest.partition(".")[0]
    is_file = (SOURCE / "tideo" / first).is_dir() or (SOURCE / "tideo" / f"{first}.py").is_file()
    return first if first and (first in STEP_OF or is_file) else "__init__"  # `from tideo import __version__`


def forbidden(source: str, *, module: str) -> list[str]:
    """The imports of a module that go to a later step or to a sibling."""
    here = room_of(module)
    wrong = []
    for name in sorted(imported(ast.parse(source), module=module)):
        there = room_of(name)
        if there not in (None, here, "__init__") and STEP_OF[there] >= STEP_OF[here]:
            wrong.append(f"{module} imports {name}")
    return wrong


def test_every_room_has_a_step() -> None:
    rooms = {room_of(module_name(path)) for path in MODULES}
    assert rooms <= set(STEP_OF), "give the new room a place in STEPS"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_one_way(path: Path) -> None:
    assert forbidden(path.read_text(encoding="utf-8"), module=module_name(path)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tideo.types", "import tideo.cli"),
        ("tideo.registry", "from tideo import cli"),
        ("tideo.video.decode", "from tideo.encoders import dual"),
        ("tideo.video.decode", "from ..evaluate.run import evaluate"),
        ("tideo.config", "def later():\n    from tideo.registry import load"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    assert len(forbidden(source, module=module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tideo.cli", "from tideo.video import samplers"),
        ("tideo.video.samplers", "from . import decode\nfrom tideo.types import Frames"),
        ("tideo.config", "import json, tideo\nfrom tideo import __version__"),
    ],
)
def test_a_right_import_passes(module: str, source: str) -> None:
    assert forbidden(source, module=module) == []


def top_level_packages(tree: ast.Module, *, module: str) -> set[str]:
    statements = ast.Module(
        body=[node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], type_ignores=[]
    )
    return {name.partition(".")[0] for name in imported(statements, module=module)}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_without_extras(path: Path) -> None:
    packages = top_level_packages(ast.parse(path.read_text(encoding="utf-8")), module=module_name(path))
    assert packages & set(EXTRAS) == set(), "an optional dependency is imported on use"


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {line.partition(">")[0].lower() for line in project["dependencies"]}
    aliases = {"PIL": "pillow", "huggingface_hub": "transformers"}  # the latter comes with the former
    used: dict[str, str] = {}
    for path in MODULES:
        for name in imported(ast.parse(path.read_text(encoding="utf-8")), module=module_name(path)):
            used[name.partition(".")[0]] = module_name(path)
    others = ("tideo", *EXTRAS, *HOSTS)
    foreign = {name for name in used if name not in sys.stdlib_module_names and name not in others}
    assert {name: used[name] for name in HOSTS} == HOSTS
    missing = {name: used[name] for name in foreign if aliases.get(name, name).lower() not in declared}
    assert missing == {}


def test_every_extra_is_one_of_the_project() -> None:
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
