"""--set is typed by annotations; run.json is written, and read back as the same recipe."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tideo
from tideo import config
from tideo.types import UserError


@dataclass(frozen=True, kw_only=True)
class Adapter:
    length: int = 50
    gate_bias: float | None = None


@dataclass(frozen=True, kw_only=True)
class Lora:
    rank: int = 8


@dataclass(frozen=True, kw_only=True)
class Train:
    lr: float = 5e-3
    steps: int = 100
    shuffle: bool = True
    betas: tuple[float, float] = (0.9, 0.95)
    tasks: tuple[str, ...] = ("mcqa",)
    schedule: Literal["cosine", "constant"] = "cosine"
    frames: Literal[5, 10] = 10
    name: str | None = None
    warmup: int | float = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    llm: str = "llama"
    train: Train = field(default_factory=Train)
    adapter: Adapter | Lora = field(default_factory=Adapter)
    extra: Adapter | None = None
    weights: dict[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr=1e-4", 1e-4),
        ("lr=3", 3.0),
        ("steps=7", 7),
        ("shuffle=false", False),
        ("shuffle=Yes", True),
        ("betas=0.8,0.9", (0.8, 0.9)),
        ("betas=(0.8, 0.9)", (0.8, 0.9)),
        ("tasks=a,b , c", ("a", "b", "c")),
        ("tasks=one,", ("one",)),
        ("tasks=", ()),
        ("schedule=constant", "constant"),
        ("frames=5", 5),
        ("name=none", None),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("warmup=2", 2),
        ("warmup=0.5", 0.5),
    ],
)
def test_set_is_typed(setting: str, value: object) -> None:
    key = setting.partition("=")[0]
    got = getattr(config.override(Recipe(), [f"train.{setting}"]).train, key)
    assert (got, type(got)) == (value, type(value))


def test_set_leaves_the_rest_and_the_last_one_holds() -> None:
    changed = config.override(Recipe(), ["train.lr=1", "llm=x", "train.lr=2", "adapter.length=3"])
    assert changed == Recipe(llm="x", train=Train(lr=2.0), adapter=Adapter(length=3))


@dataclass(frozen=True, kw_only=True)
class Length:
    steps: int | None = 100
    epochs: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UserError("give either steps or epochs")


@pytest.mark.parametrize("settings", [["steps=none", "epochs=2"], ["epochs=2", "steps=none"]])
def test_what_is_set_together_is_judged_together(settings: list[str]) -> None:
    assert config.override(Length(), settings) == Length(steps=None, epochs=2.0)
    for setting in settings:
        with pytest.raises(UserError, match="give either steps or epochs"):
            config.override(Length(), [setting])


def test_a_part_that_is_none_is_made_of_its_keys() -> None:
    assert config.override(Recipe(), ["extra.length=3"]).extra == Adapter(length=3)
    assert config.override(Recipe(extra=Adapter(length=3)), ["extra.gate_bias=1"]).extra == Adapter(
        length=3, gate_bias=1.0
    )
    assert config.override(Recipe(extra=Adapter()), ["extra.length=3", "extra=none"]).extra is None
    with pytest.raises(UserError, match="unknown key 'rank'"):
        config.override(Recipe(), ["extra.rank=3"])


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.lr", r"^--set train.lr: expected key=value, as in train.lr=1e-4$"),
        ("=3", r"expected key=value"),
        ("train.stepz=3", r"unknown key 'stepz'; did you mean steps\?"),
        ("zzz=3", r"unknown key 'zzz'; known: llm, train, adapter, extra, weights"),
        ("train.lr=fast", r"^--set train.lr=fast: expected a finite number, not 'fast'$"),
        ("train.lr=nan", r"expected a finite number, not 'nan'"),
        ("train.lr=inf", r"expected a finite number, not 'inf'"),
        ("train.steps=1e3", r"expected a whole number, not '1e3'"),
        ("train.steps=0", r"^--set train.steps=0: steps must be at least 1, not 0$"),
        ("train.shuffle=maybe", r"expected true or false, not 'maybe'"),
        ("train.betas=0.9", r"expected 2 values, not 1"),
        ("train.schedule=linear", r"expected one of cosine, constant, not 'linear'"),
        ("train=3", r"set its keys one by one: lr, steps"),
        ("train.lr.x=3", r"lr is no part of the recipe, it has no key 'x'"),
        ("llm.name=3", r"llm is no part of the recipe, it has no key 'name'"),
        ("adapter.rank=3", r"unknown key 'rank'; known: length, gate_bias"),
        ("adapter.gate_bias=x", r"expected a finite number, not 'x'; expected none, not 'x'"),
        ("weights=a", r"cannot be read from 'a'"),
    ],
)
def test_set_refuses(setting: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        config.override(Recipe(), [setting])


numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(alphabet=st.characters(exclude_characters=",()"), min_size=1).map(str.strip).filter(bool)


@given(lr=numbers, steps=st.integers(1), betas=st.tuples(numbers, numbers), tasks=st.lists(words))
def test_what_is_printed_is_read_as_the_same(
    lr: float, steps: int, betas: tuple[float, float], tasks: list[str]
) -> None:
    settings = [f"lr={lr}", f"steps={steps}", f"betas={betas}", f"tasks={','.join(tasks)}"]
    assert config.override(Train(), settings) == Train(lr=lr, steps=steps, betas=betas, tasks=tuple(tasks))


recipes = st.builds(
    Recipe,
    llm=st.text(),
    train=st.builds(
        Train,
        lr=numbers,
        steps=st.integers(1),
        tasks=st.lists(st.text()).map(tuple),
        name=st.none() | st.text(),
        frames=st.sampled_from([5, 10]),
    ),
    adapter=st.builds(Adapter, length=st.integers(), gate_bias=st.none() | numbers) | st.builds(Lora),
    extra=st.none() | st.builds(Adapter),
    weights=st.dictionaries(st.text(), numbers),
)


@given(recipe=recipes)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    plain = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert config.from_plain(Recipe, plain) == recipe


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ({"train": {"steps": "7"}}, r"^this is no Recipe: expected int, not '7'$"),
        ({"train": {"steps": True}}, r"expected int, not True"),
        ({"train": {"steps": 1.5}}, r"expected int, not 1.5"),
        ({"train": {"shuffle": 1}}, r"expected bool, not 1"),
        ({"train": {"betas": 0.9}}, r"expected a list, not 0.9"),
        ({"train": {"steps": 0}}, r"steps must be at least 1"),
        ({"train": 3}, r"expected the keys of Train, not 3"),
        ({"trian": {}}, r"Recipe has no trian; known: llm, train, adapter, extra, weights"),
    ],
)
def test_json_of_another_type_is_refused(plain: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config.from_plain(Recipe, plain)


def test_run_is_written_and_read_back(tmp_path: Path) -> None:
    recipe = Recipe(train=Train(lr=1e-4, name="é"))
    path = config.write_run(tmp_path / "new" / "run", recipe=recipe, seed=3, command="tideo prealign x")
    assert path == tmp_path / "new" / "run" / "run.json"
    assert [file.name for file in path.parent.iterdir()] == ["run.json"]
    run = config.read_run(path.parent)
    assert config.from_plain(Recipe, run.recipe) == recipe
    assert (run.seed, run.command, run.commit) == (3, "tideo prealign x", config.git_commit())
    assert set(run.versions) == {"python", "tideo", "torch", "transformers", "peft", "av", "numpy"}
    assert run.versions["tideo"] == tideo.__version__


def test_run_takes_a_mapping_and_the_running_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/some/bin/tideo", "eval", "dollhouse", "--out", "a b"])
    config.write_run(tmp_path, recipe={"benchmark": "dollhouse", "limit": None})
    run = config.read_run(tmp_path)
    assert run.recipe == {"benchmark": "dollhouse", "limit": None}
    assert run.command == "tideo eval dollhouse --out 'a b'"
    assert run.seed is None


def test_run_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        config.write_run(tmp_path, recipe={"lr": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"is no run directory: .*run\.json cannot be read \(No such file or directory\)$"),
        ("", r"is no record of a run: Expecting value.*; do the run again$"),
        ("[]", r"is no record of a run: expected the keys of Run"),
        ("{}", r"is no record of a run: .*missing 5 required"),
        ("\xff", r"is no record of a run: .*can't decode"),
    ],
)
def test_unreadable_run(content: str | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=told):
        config.read_run(tmp_path)


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.check_output(["git", *identity, *args], cwd=folder, text=True, stderr=subprocess.PIPE)


def test_commit_is_that_of_the_package_not_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    source = tmp_path / "tideo" / "config.py"
    source.parent.mkdir()
    source.write_text("one\n")
    monkeypatch.setattr(config, "__file__", str(source))
    assert config.git_commit() is None  # inside a repository, but no part of it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    monkeypatch.chdir("/")
    assert config.git_commit() == head
    source.write_text("two\n")
    assert config.git_commit() == f"{head}-dirty"
