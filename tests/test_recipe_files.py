"""Recipes in files of one's own: Python and YAML, and what is wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Tideo
from grid_training import config_for
from tideo.recipe_files import load_recipe, name_of
from tideo.registry import load
from tideo.types import UserError

IMPORT = "from tideo.recipes.llava_1_5_13b_nextqa import llava_1_5_13b_nextqa as base\n"


def test_a_python_file_returns_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{IMPORT}def other():\n    return None\ndef mine():\n    return base()\n")
    assert load_recipe(str(path)) == load("recipes", "llava_1_5_13b_nextqa")()
    assert load_recipe(f"{path}:mine") == load_recipe(str(path))
    assert load_recipe(f"{path}:other") is None
    (tmp_path / "only.py").write_text(f"{IMPORT}def named_otherwise():\n    return base()\n")
    assert load_recipe(str(tmp_path / "only.py")) == load_recipe(str(path))
    assert (name_of(str(path)), name_of(f"{path}:other"), name_of("tiny_lm")) == ("mine", "other", "tiny_lm")


def test_a_yaml_file_changes_a_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "base: llava_1_5_13b_nextqa\nnum: 12\ngrid.rows: 3\nmodules: [projector, llm]\n"
        "train:\n  lr: 1e-4  # YAML alone would take it for text\n  epochs: null\n  steps: 9\n  bf16: false\n"
    )
    recipe = load_recipe(str(path))
    assert (recipe.num, recipe.grid.rows, recipe.modules) == (12, 3, ("projector", "llm"))
    assert (recipe.train.lr, recipe.train.epochs, recipe.train.steps, recipe.train.bf16) == (
        1e-4,
        None,
        9,
        False,
    )
    (tmp_path / "next.yml").write_text("base: mine.yaml\nnum: 13\n")
    again = load_recipe(str(tmp_path / "next.yml"))
    assert (again.num, again.train.lr) == (13, 1e-4)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("two.py", "def a(): ...\ndef b(): ...\n", r"the functions a, b, expected one .*; name one, as in .*two\.py:a"),
        ("none.py", "x = 1\n", "it defines no function"),
        ("syntax.py", "def a():\n    x = [\n", r"syntax\.py, line 2: '\[' was never closed"),
        ("zero.py", "def a():\n    return 1 / 0\n", r"zero\.py, line 2: ZeroDivisionError: division by zero"),
        ("lost.py", "import nosuchmodule\n", r"lost\.py, line 1: ModuleNotFoundError"),
        ("needs.py", "def a(x): ...\n", "a must be callable without arguments"),
        ("fields.py", IMPORT + "from dataclasses import replace\ndef a():\n    return replace(base(), num=0)\n",
         r"fields\.py: num=0: expected at least 1"),
        ("open.yaml", "x: [1\ny: 2\n", r"open\.yaml, line 2: it is no YAML"),
        ("code.yaml", "base: x\nnum: !!python/object/apply:os.getcwd []\n", "line 2: it is no YAML: could not"),
        ("twice.yaml", "base: llava_1_5_13b_nextqa\nnum: 1\nnum: 2\n", r"line 3: .* the key 'num' comes twice"),
        ("no.yaml", "num: 1\n", "expected `base: NAME`"),
        ("list.yaml", "- 1\n", "expected `base: NAME`"),
        ("key.yaml", "base: llava_1_5_13b_nextqa\ntrain: {leanring: 1}\n", "train.leanring=1: unknown key 'leanring'"),
        ("near.yaml", "base: llava_1_5_13b_nextqa\ngrid:\n  row: 3\n", "unknown key 'row'; did you mean rows"),
        ("value.yaml", "base: llava_1_5_13b_nextqa\ntrain: {lr: fast}\n", "train.lr=fast: expected a finite number"),
        ("deep.yaml", "base: llava_1_5_13b_nextqa\nmodules: [[a]]\n", "modules: expected a value or a list of values"),
        ("loop.yaml", "base: loop.yaml\n", "its bases lead back to itself"),
        ("base.yaml", "base: gone.py\n", r"gone\.py: there is no such file"),
        ("name.yaml", "base: llava_1_5_13b_nextq\n", "did you mean llava_1_5_13b_nextqa"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told):
        load_recipe(str(tmp_path / name))


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("gone.py", "gone.py: there is no such file"),
        ("a.py:b", "unknown function 'b'"),
        ("c.yaml:x", "only a Python file"),
    ],
)
def test_a_file_or_function_that_is_not_there(recipe: str, told: str, tmp_path: Path, tideo: Tideo) -> None:
    (tmp_path / "a.py").write_text("def a(): ...\n")
    (tmp_path / "c.yaml").write_text("base: x\n")
    done = tideo("finetune", recipe, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert told in done.stderr


def test_the_commands_take_files(tmp_path: Path, tideo: Tideo) -> None:
    config = config_for(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        f"base: dollhouse_grid\nmodel: {config.model}\ndata: nextqa\npath: {config.path}\nvideos: {config.videos}\n"
        "num: ~\npacked: 1\ngrid: {rows: 2, cols: 2, image_size: 28}\n"
        "train: {steps: 1, batch: 1, muon_lr: none, bf16: false}\n"
    )
    done = tideo("finetune", "mine.yaml", cwd=tmp_path)
    assert done.stdout.strip() == "runs/mine", done.stderr
    recorded = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())["recipe"]
    assert (recorded["train"]["steps"], recorded["grid"]["rows"]) == (1, 2)
    assert "is finished already" in tideo("finetune", "mine.yaml", "--resume", cwd=tmp_path).stderr
    for command in ("prealign", "train"):
        assert (
            "mine.yaml is a recipe for `tideo finetune`" in tideo(command, "mine.yaml", cwd=tmp_path).stderr
        )
    (tmp_path / "wrong.py").write_text("def wrong():\n    return {}\n")
    told = tideo("train", "wrong.py", cwd=tmp_path).stderr
    assert "wrong.py returns a dict; expected a recipe: PrealignConfig, FinetuneConfig" in told


@pytest.mark.parametrize("text", ["train: &a\n  x: *a\n", "a: &a {x: 1}\nb: {p: *a, q: *a}\n"])
def test_an_alias_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("base: llava_1_5_7b_nextqa\n" + text)
    with pytest.raises(
        UserError, match=r"own.yaml, line 3: it is no YAML: \*a is an alias: write the value out"
    ):
        load_recipe(str(path))
