"""The estimate of a pre-alignment, against the published hardware."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Tideo
from tideo.dollhouse.export import ask_split, tideo_of
from tideo.registry import load
from tideo.textvid.schema import dump, from_tideo
from tideo.train.plan import GIB, SHAPES, settings_of
from tideo.train.topa.config import PrealignConfig
from tideo.train.topa.plan import lengths_of, memory_of, parameters, plan, shape
from tideo.types import UserError
from tiny import save_llm


def planned(config: PrealignConfig, *, gpus: int) -> tuple[dict[str, int], dict[str, int], float]:
    model, _ = shape(config, settings_of(config.llm, located=config.llm)[0])
    total, learning = parameters(model)
    return total, learning, memory_of(config, model, lengths_of(config), gpus=gpus).gpu / GIB


def test_the_plan_of_the_7b() -> None:
    config = load("recipes", "llama2_7b")()
    total, learning, gib = planned(config, gpus=4)
    assert total["llm"] == 6_738_415_616  # of the published checkpoint
    assert learning == {
        "llm": 0, "adapter": 32 * 50 * 4096 + 2 * 32 * 32, "projection": 768 * 4096 + 10 * 4096,
    }  # fmt: skip
    assert 20 < gib < 38  # of an A100-40G, which the paper used
    text = plan(config, gpus=4, on="A100-40G")
    hours = float(next(line for line in text.splitlines() if "hours on 4 x A100-40G" in line).split()[0])
    assert 24 < hours < 48  # "one to two days"
    assert "examples of a step: 18 x 4 x 4 processes = 288 · learning rate 0.005625" in text
    assert "  fits one A100-40G" in text
    assert "721,000 Tideos" in text
    quarter = replace(config, load_4bit=True)
    assert planned(quarter, gpus=4)[2] == pytest.approx(gib - 1.5 * 6_738_415_616 / GIB)
    sharded = replace(config, train=replace(config.train, parallel="fsdp"))
    assert planned(sharded, gpus=4)[2] < gib - 6
    checked = replace(config, train=replace(config.train, gradient_checkpointing=True))
    assert planned(checked, gpus=4)[2] < gib - 6


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["llama2_13b", "llama3_8b"])
def test_the_larger_ones_fit_the_published_cards(recipe: str) -> None:
    assert planned(load("recipes", recipe)(), gpus=4)[2] < 38


def test_a_plan_counts_the_tideos_that_are_there(tmp_path: Path, tideo: Tideo) -> None:
    dump([from_tideo(tideo_of(a, seed=0)) for a in ask_split("train", num=6)], tmp_path / "textvid.json")
    done = tideo("prealign", "dollhouse_topa", "--plan", "--set", f"tideos={tmp_path / 'textvid.json'}")
    assert done.returncode == 0
    assert "tokens an example (counted in " in done.stdout
    assert "2,400 steps" in done.stdout
    assert ["llm", "2,313,408", "0"] in [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--gpus", "4"], "--gpus and --card are for --plan"),
        (["--plan", "--card", "A100"], "unknown card 'A100'; did you mean"),
        (["--plan", "--resume"], "--plan trains nothing"),
        (["--plan", "--set", "llm=gone/gone"], "the shape of 'gone/gone' cannot be read"),
        (["--plan", "--set", "train.lr=1"], "it changes nothing (train.base_lr sets the rate"),
        (["--plan", "--set", "train.base_lr=-1"], "train.base_lr=-1.0: expected more than 0"),
        (["--plan", "--set", "train.batch=0"], "train.batch=0: expected at least 1"),
        (["--plan", "--set", "train.parallel=zero4"], "expected fsdp, zero2, zero3, zero3_offload"),
        (["--plan", "--set", "train.deepspeed=zero2"], "deepspeed is now parallel"),
        (["--plan", "--set", "device_map=auto"], "in a training train.parallel spreads a model"),
        (
            ["--plan", "--set", "load_4bit=true", "--set", "train.parallel=zero3"],
            "those in 4 bits are not sharded: set train.parallel=none or zero2",
        ),
    ],
)
def test_bad_input_is_one_line(args: list[str], told: str, tideo: Tideo, tmp_path: Path) -> None:
    done = tideo("prealign", "llama2_7b", *args, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.splitlines()[-1].startswith("tideo: ")


def test_the_shapes_are_those_of_their_families() -> None:
    for name in SHAPES:
        assert settings_of(name, located="")[1] == "shape as published"


def test_examples_beyond_the_context_are_not_planned(tmp_path: Path) -> None:
    config = replace(load("recipes", "dollhouse_topa")(), llm=str(save_llm(tmp_path, max_tokens=64)))
    with pytest.raises(
        UserError, match=r"an example of about \d+ tokens .* is longer than its context of 64: set a"
    ):
        plan(config, gpus=1, on="T4")
