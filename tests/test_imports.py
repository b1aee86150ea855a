"""Imports run one way: file by file, a room may use the rooms on the floors below it, and no circle of files."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tideo.registry import EXTRAS

SOURCE = Path(__file__).parents[1] / "src"
# Each line is a floor; a room is a module or a folder below `tideo`, and the longest name that fits counts.
FLOORS = (
    ("types", "__init__"),
    (
        "bundled",
        "child",
        "cluster",
        "config",
        "console",
        "startup",
        "device",
        "fitting",
        "gpus",
        "loading",
        "pretrained",
        "processes",
        "recipe_files",
        "registry",
        "replies",
        "runs",
        "scoring",
        "store",
        "parallel",
        "tally",
    ),
    ("video", "benchmarks", "llms"),
    ("encoders",),
    ("textvid.schema",),
    ("models.prompts", "models.packed", "models.batching", "models.listener", "models.selecting"),
    ("models.likelihood",),
    ("models.shared_prefix",),
    ("models.interface",),
    ("models.answering",),
    ("models.topa", "models.grid"),
    ("models",),
    ("textvid", "evaluate"),
    ("train.shapes",),
    (
        "train.annotated",
        "train.finite",
        "train.history",
        "train.one_device",
        "train.parallel",
        "train.plan",
        "train.saving",
        "train.skipped",
        "train.uneven",
        "train.workers",
    ),
    ("train.reporting",),
    ("dollhouse", "train.trainer", "train.optim", "train.packing", "train.calibration"),
    ("benchmarks.dollhouse",),
    ("train.topa", "train.grid"),
    ("tiny", "demo", "doctor"),
    ("lab", "search", "serve", "recipes"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Rooms of one floor whose files may use each other's; all others of a floor are apart, as the wings are.
TOGETHER = {
    "bundled",
    "child",
    "cluster",
    "config",
    "console",
    "startup",
    "device",
    "fitting",
    "gpus",
    "loading",
    "pretrained",
    "processes",
    "recipe_files",
    "registry",
    "replies",
    "runs",
    "scoring",
    "store",
    "parallel",
    "tally",
}
HOSTS = {"lmms_eval": "tideo.evaluate.lmms_eval"}  # what loads us as a plug-in: the module that may import it


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((SOURCE / "tideo").rglob("*.py"))}


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
    """The room of an absolute name: `tideo.models.topa.model.Model` → models.topa; None if it is not ours."""
    top, _, rest = name.partition(".")
    if top != "tideo":
        return None
    parts = rest.split(".") if rest else []
    rooms = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((room for room in rooms if room in FLOOR_OF), "__init__")


def forbidden(source: str, *, module: str) -> list[str]:
    """The imports of a module that go up, or to another room of its floor."""
    here = room_of(module)
    assert here is not None
    wrong = []
    for name in sorted(imported(ast.parse(source), module=module)):
        there = room_of(name)
        if there in (None, here, "__init__") or {here, there} <= TOGETHER:
            continue
        if FLOOR_OF[there] >= FLOOR_OF[here]:
            wrong.append(f"{module} imports {name}")
    return wrong


def circles(uses: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Modules that import each other in a loop; one loop of each, empty where there is none."""
    found: list[list[str]] = []
    finished: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append(path[path.index(module) :])
        elif module not in finished:
            for other in uses.get(module, ()):
                visit(other, [*path, module])
            finished.add(module)

    for module in uses:
        visit(module, [])
    return found


def files_used(module: str) -> set[str]:
    """The modules of ours that a module imports."""
    names = imported(ast.parse(MODULES[module].read_text(encoding="utf-8")), module=module)
    return {n if n in MODULES else n.rpartition(".")[0] for n in names if n.startswith("tideo.")} & set(
        MODULES
    )


def test_every_module_has_a_floor() -> None:
    lost = [name for name in MODULES if name not in ("tideo", "tideo.train") and room_of(name) == "__init__"]
    assert lost == [], "give the new room a place in FLOORS"


def test_imports_run_one_way() -> None:
    wrong = [forbidden(path.read_text(encoding="utf-8"), module=module) for module, path in MODULES.items()]
    assert [line for lines in wrong for line in lines] == []


def test_no_circle_of_files() -> None:
    assert circles({module: files_used(module) - {module} for module in MODULES}) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tideo.types", "import tideo.cli"),
        ("tideo.registry", "from tideo import cli"),
        ("tideo.video.decode", "from tideo.encoders import dual"),
        ("tideo.video.decode", "from ..evaluate.run import evaluate"),
        ("tideo.config", "def later():\n    from tideo.video.samplers import middle"),
        ("tideo.models.topa.model", "from tideo.models.grid.settings import GridSettings"),
        ("tideo.models.grid.vlm", "from tideo.models import topa"),
        ("tideo.train.grid.finetune", "from tideo.train.topa.prealign import prealign"),
        ("tideo.train.grid.finetune", "from tideo.tiny.llava import tiny_llava"),
        ("tideo.models.topa.model", "from tideo.dollhouse.captions import caption"),
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


# What may name the dollhouse or its tiny models: their rooms, the studies, the recipes, the demo, the reader of its
# files, and the commands, whose default model is one that ships with the package.
OF_THE_DOLLHOUSE = {"dollhouse", "tiny", "lab", "recipes", "demo", "benchmarks.dollhouse", "commands", "cli"}


def test_nothing_general_knows_the_dollhouse() -> None:
    for module in (m for m in MODULES if room_of(m) not in OF_THE_DOLLHOUSE):
        source = MODULES[module].read_text(encoding="utf-8")
        assert "dollhouse" not in source.lower(), module
        names = imported(ast.parse(source), module=module)
        assert not any(name.startswith("tideo.tiny") for name in names), module


def test_a_command_imports_of_the_dollhouse_only_what_it_runs() -> None:
    for module in (m for m in MODULES if room_of(m) in ("commands", "cli")):
        ours = imported(ast.parse(MODULES[module].read_text(encoding="utf-8")), module=module)
        worlds = {name for name in ours if name.startswith(("tideo.dollhouse", "tideo.tiny"))}
        assert worlds <= {"tideo.dollhouse.export.make", "tideo.tiny.train.train"}, module


def test_no_file_is_long() -> None:
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES.values())
    assert lengths[-1] <= 300
    assert lengths[len(lengths) // 2] <= 130


def top_level_packages(tree: ast.Module, *, module: str) -> set[str]:
    statements = ast.Module(
        body=[node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], type_ignores=[]
    )
    return {name.partition(".")[0] for name in imported(statements, module=module)}


# Files of which nothing works without their extra; they are themselves imported on use.
OF_AN_EXTRA = ("tideo.serve.app", "tideo.serve.connection", "tideo.serve.events", "tideo.serve.metrics")


def test_a_module_imports_without_extras() -> None:
    for module in (m for m in MODULES if m not in OF_AN_EXTRA):
        packages = top_level_packages(ast.parse(MODULES[module].read_text(encoding="utf-8")), module=module)
        assert packages & set(EXTRAS) == set(), f"{module}: an optional dependency is imported on use"


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {line.partition(">")[0].lower() for line in project["dependencies"]}
    aliases = {"PIL": "pillow", "yaml": "pyyaml", "huggingface_hub": "transformers"}  # which comes with it
    used: dict[str, str] = {}
    for module, path in MODULES.items():
        for name in imported(ast.parse(path.read_text(encoding="utf-8")), module=module):
            used[name.partition(".")[0]] = module
    others = ("tideo", *EXTRAS, *HOSTS)
    foreign = {name for name in used if name not in sys.stdlib_module_names and name not in others}
    assert {name: used[name] for name in HOSTS} == HOSTS
    missing = {name: used[name] for name in foreign if aliases.get(name, name).lower() not in declared}
    assert missing == {}


def test_every_extra_is_one_of_the_project() -> None:
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
