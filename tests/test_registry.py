"""Names, entry points of other packages, near matches, missing extras."""

from __future__ import annotations

import subprocess
import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest

from conftest import REPOSITORY
from tideo import registry
from tideo.encoders.dual import load_encoder
from tideo.models.load import load_model
from tideo.types import UserError

EVERY_NAME = [(kind, name) for kind in registry.KINDS for name in registry.builtin(kind)]


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds a sampler, one that takes a name of ours, and one whose extra is missing."""
    monkeypatch.setitem(registry.BUILTIN, "samplers", {"middle": "math:ceil", "uniform": "math:floor"})
    (tmp_path / "other_samplers.py").write_text(
        '"""All of theirs."""\n\n\ndef every_second(num):\n    """One frame a second.\n\n    More."""\n'
        "    return num\n\n\ndef bare(num):\n    return num\n"
    )
    (tmp_path / "needs_extra.py").write_text('"""Needs vllm."""\n\nimport vllm\n')
    (tmp_path / "is_broken.py").write_text("import no_such_module_of_theirs\n")
    info = tmp_path / "other_samplers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-samplers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tideo.samplers]\nevery_second = other_samplers:every_second\nbare = other_samplers:bare\n"
        "uniform = other_samplers:every_second\nvia_vllm = needs_extra:sample\nbroken = is_broken:sample\n"
        "[tideo.models]\ndollhouse-topa = other_samplers:bare\nblind = other_samplers:bare\n"
        "[tideo.encoders]\ndollhouse-clip = other_samplers:bare\n[tideo.tideos]\ndollhouse = other_samplers:bare\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("other_samplers", "needs_extra", "is_broken"):
        monkeypatch.delitem(sys.modules, module, raising=False)  # of the test before
    monkeypatch.setitem(sys.modules, "vllm", None)  # absent, even where it is installed
    invalidate_caches()


@pytest.mark.parametrize(("kind", "name"), EVERY_NAME)
def test_every_builtin_name_loads(kind: str, name: str) -> None:
    assert registry.load(kind, name) is not None


@pytest.mark.parametrize(("kind", "name"), EVERY_NAME)
def test_every_builtin_name_is_described(kind: str, name: str) -> None:
    assert registry.describe(kind)[name].endswith(".")


def test_benchmarks_and_recipes_are_found_by_their_path() -> None:
    assert registry.builtin("benchmarks")["tvqa_subtitles"] == (
        "tideo.benchmarks.tvqa_subtitles:tvqa_subtitles"
    )
    for kind, others in (("benchmarks", {"__init__", "annotations"}), ("recipes", {"__init__"})):
        files = {path.stem for path in Path(registry.__file__).with_name(kind).glob("*.py")}
        assert set(registry.builtin(kind)) == files - others


def test_a_file_counts_if_it_defines_a_function_of_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "things").mkdir()
    for name, text in {
        "one": "def one(): ...",
        "two": "def other(): ...",
        "three": "three = import_me",
    }.items():
        (tmp_path / "things" / f"{name}.py").write_text(text)
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    assert registry.files_of("things") == {"one": "tideo.things.one:one"}
    registry.files_of.cache_clear()


def test_a_listed_name_starts_nothing_heavy() -> None:
    code = (
        "import sys; from tideo import registry; [registry.describe(k) for k in registry.KINDS]; "
        "assert not {'torch', 'pydantic', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(REPOSITORY / "src")}, check=True)


@pytest.mark.usefixtures("other_package")
def test_another_package_adds_a_name() -> None:
    assert registry.load("samplers", "every_second")(3) == 3


@pytest.mark.usefixtures("other_package")
def test_another_package_cannot_take_a_name_of_ours() -> None:
    assert registry.load("samplers", "uniform")(1.5) == 1
    assert load_model("dollhouse-topa").name == "dollhouse-topa"
    assert load_encoder("dollhouse-clip").dim == 128
    assert registry.targets("models")["blind"].startswith("tideo.")
    assert registry.targets("tideos")["dollhouse"].startswith("tideo.")


@pytest.mark.usefixtures("other_package")
def test_descriptions_import_nothing() -> None:
    described = registry.describe("samplers")
    assert described["every_second"] == "One frame a second."
    assert described["bare"] == "All of theirs."  # the module's line, where the function has none
    assert described["via_vllm"] == "Needs vllm."
    assert not {"other_samplers", "needs_extra", "is_broken"} & set(sys.modules)


@pytest.mark.usefixtures("other_package")
def test_missing_extra_names_the_command() -> None:
    with pytest.raises(UserError, match=r"vllm is not installed: run pip install 'tideo\[vllm\]'"):
        registry.load("samplers", "via_vllm")


@pytest.mark.usefixtures("other_package")
def test_a_broken_package_is_not_taken_for_a_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_theirs"):
        registry.load("samplers", "broken")


@pytest.mark.usefixtures("other_package")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("unifrom", r"^unknown sampler 'unifrom'; did you mean uniform\?$"),
        ("zzz", r"^unknown sampler 'zzz'; known: bare, broken, every_second, middle, uniform, via_vllm$"),
    ],
)
def test_unknown_name(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        registry.load("samplers", name)


def test_unknown_kind() -> None:
    with pytest.raises(UserError, match=r"unknown kind 'model'; did you mean models\?"):
        registry.targets("model")


def test_an_encoder_of_another_package_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from tideo.encoders.dual import load_encoder

    monkeypatch.setitem(registry.BUILTIN, "encoders", {"theirs": "builtins:object"})
    assert type(load_encoder("theirs")) is object
