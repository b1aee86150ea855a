"""run.json is written, and read back as the same recipe."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

import tideo
from tideo import runs
from tideo.config import from_plain
from tideo.types import UserError


@dataclass(frozen=True, kw_only=True)
class Train:
    lr: float = 3e-4
    name: str = "adamw"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    seed: int = 0
    train: Train = field(default_factory=Train)


def test_run_is_written_and_read_back(tmp_path: Path) -> None:
    recipe = Recipe(train=Train(lr=1e-4, name="é"))
    path = runs.write_run(tmp_path / "new" / "run", recipe=recipe, seed=3, command="tideo prealign x")
    assert path == tmp_path / "new" / "run" / "run.json"
    assert [file.name for file in path.parent.iterdir()] == ["run.json"]
    run = runs.read_run(path.parent)
    assert from_plain(Recipe, run.recipe) == recipe
    assert (run.seed, run.command, run.commit) == (3, "tideo prealign x", runs.git_commit())
    assert set(run.versions) == {"python", "tideo", "torch", "transformers", "peft", "av", "numpy"}
    assert run.versions["tideo"] == tideo.__version__


def test_run_takes_a_mapping_and_the_running_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/some/bin/tideo", "eval", "dollhouse", "--out", "a b"])
    runs.write_run(tmp_path, recipe={"benchmark": "dollhouse", "limit": None})
    run = runs.read_run(tmp_path)
    assert run.recipe == {"benchmark": "dollhouse", "limit": None}
    assert run.command == "tideo eval dollhouse --out 'a b'"
    assert run.seed is None


def test_run_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_run(tmp_path, recipe={"lr": float("nan")})
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class OnFile:
    data: str
    stages: tuple[Train, ...] = ()


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    """The recipe names a file by its path, and the file is written anew under it."""
    file, text = tmp_path / "data.jsonl", "first\n"
    file.write_text(text)
    recipe = OnFile(data=str(file), stages=(Train(name=str(file)), Train(name="x" * 5000), Train(name="\0")))
    runs.write_run(tmp_path / "run", recipe=recipe)
    runs.same_recipe(tmp_path / "run", recipe)
    file.write_text("other\n")
    with pytest.raises(UserError, match=r"data\.jsonl has changed since .*run was begun: give another --out"):
        runs.same_recipe(tmp_path / "run", recipe)
    file.write_text(text)
    runs.same_recipe(tmp_path / "run", recipe)


@dataclass(frozen=True)
class Stage:
    renamed: ClassVar[dict[str, str]] = {"iterations": "steps"}
    steps: int = 1


@dataclass(frozen=True)
class Staged:
    renamed: ClassVar[dict[str, str]] = {"lessons": "stages"}
    stages: tuple[Stage, ...] = (Stage(), Stage(steps=2))


def test_a_recipe_may_have_other_names_than_in_an_earlier_version(tmp_path: Path) -> None:
    runs.write_run(tmp_path, recipe={"lessons": [{"iterations": 1}, {"iterations": 2}], "gone": 0})
    runs.same_recipe(tmp_path, Staged())
    with pytest.raises(
        UserError, match=r"another recipe \(stages is \[\{'steps': 1\}, \{'steps': 2\}\] there"
    ):
        runs.same_recipe(tmp_path, Staged(stages=(Stage(steps=3), Stage(steps=2))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"is no run directory: .*run\.json cannot be read \(No such file or directory\)$"),
        ("", r"is no record of a run: Expecting value.*; do the run again$"),
        ("[]", r"is no record of a run: this is no valid Run: expected the keys of Run"),
        ("{}", r"is no record of a run: .*missing 5 required"),
        ("\xff", r"is no record of a run: .*can't decode"),
    ],
)
def test_unreadable_run(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        runs.read_run(tmp_path)


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.check_output(["git", *identity, *args], cwd=folder, text=True, stderr=subprocess.PIPE)


def test_commit_is_that_of_the_package_not_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    source = tmp_path / "tideo" / "runs.py"
    source.parent.mkdir()
    source.write_text("one\n")
    monkeypatch.setattr(runs, "__file__", str(source))
    assert runs.git_commit() is None  # inside a repository, but no part of it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    monkeypatch.chdir("/")
    assert runs.git_commit() == head
    source.write_text("two\n")
    assert runs.git_commit() == f"{head}-dirty"
