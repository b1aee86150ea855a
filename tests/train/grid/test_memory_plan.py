"""The memory estimate of a finetuning."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from grid_training import nextqa_in
from tideo.config import override
from tideo.registry import load
from tideo.train.grid.memory_plan import (
    check_context,
    examples_of,
    image_tokens,
    memory_of,
    parameters,
    plan,
    shape,
)
from tideo.train.plan import settings_of
from tideo.types import UserError
from tiny_vlms import saved


def test_the_plan_of_the_13b() -> None:
    config = load("recipes", "llava_1_5_13b_nextqa")()
    model, _ = shape(config)
    total, learning = parameters(model)
    assert sum(total.values()) == 13_351_494_656  # of the published checkpoint
    assert learning["tower"] == 0
    assert learning["llm"] == total["llm"] == 13_016_519_680
    four, eight = (memory_of(config, model, gpus=n) for n in (4, 8))
    assert four.weights == 2 * 13_351_494_656 / 4
    assert eight.weights == four.weights / 2
    assert four.host == 24 * sum(learning.values())  # as DeepSpeed's estimate has it
    assert four.gradients == 0  # they are there too
    assert four.gpu < 40 * 2**30
    on_gpu = memory_of(replace(config, train=replace(config.train, parallel=None)), model, gpus=4)
    assert on_gpu.gpu > 40 * 2**30  # why the recipe keeps the optimiser in host memory
    assert "LlavaForConditionalGeneration" in plan(config, gpus=4)


@pytest.mark.parametrize(
    ("recipe", "tokens"), [("llava_1_5_13b_nextqa", 576), ("llava_1_6_34b_nextqa", 1176)]
)
def test_an_image_has_as_many_tokens_as_the_processor_makes(recipe: str, tokens: int) -> None:
    config = load("recipes", recipe)()
    assert image_tokens(config, shape(config)[0].config) == tokens


@pytest.mark.slow
def test_a_plan_shards_only_what_the_recipe_shards() -> None:
    config = load("recipes", "llava_1_5_13b_nextqa")()
    alone = plan(override(config, ["train.parallel=none"]), gpus=4)
    assert "the whole model on each of 4 GPUs, bf16; on each GPU, GiB:" in alone
    model, _ = shape(
        alone_config := override(config, ["train.parallel=none", "lora_rank=8", "load_4bit=true"])
    )
    total, learning = (sum(counts.values()) for counts in parameters(model))
    embeddings = 3.5 * 2 * 32_064 * 5120  # and the head, which are not in 4 bits
    expected = 0.5 * (total - learning) + 4 * learning + embeddings
    assert memory_of(alone_config, model, gpus=4).weights == expected


def test_the_frozen_weights_of_a_full_training_without_sharding_are_in_float32() -> None:
    config = override(load("recipes", "llava_1_5_7b_nextqa")(), ["train.parallel=none", "modules=projector"])
    model, _ = shape(config)
    total = sum(parameters(model)[0].values())
    assert memory_of(config, model, gpus=1).weights == 4 * total
    assert memory_of(replace(config, dtype="bf16"), model, gpus=1).weights == 2 * total


def test_the_7b_fits_the_cards_that_its_recipes_name() -> None:
    text = plan(load("recipes", "llava_1_5_7b_nextqa")(), gpus=4)
    assert "34,132 questions in 7,042 sequences (as published)" in text
    assert "440.1 steps an epoch, 441 in all" in text
    assert re.search(r"A100-80G +80 +yes +0\.2", text)
    with pytest.raises(UserError, match="unknown card 'H10'; did you mean H100"):
        plan(load("recipes", "llava_1_5_7b_nextqa")(), gpus=1, on="H10")


@pytest.mark.slow
def test_the_7b_with_lora_fits_the_cards_that_its_recipe_names() -> None:
    lora = load("recipes", "llava_1_5_7b_nextqa_lora")()
    assert re.search(r"RTX4090 +24 +yes +1\.9", plan(lora, gpus=1))
    small = override(lora, ["load_4bit=true", "train.batch=1", "train.accumulate=16"])
    assert memory_of(small, shape(small)[0], gpus=1).gpu < 10 * 2**30


@pytest.mark.parametrize(("family", "tokens"), [("idefics3", 20), ("llava", 16)])
def test_a_model_of_another_family_is_planned_by_its_own_processor(
    family: str, tokens: int, tmp_path: Path
) -> None:
    folder = saved(family, tmp_path / family)
    config = override(
        load("recipes", "llava_1_5_7b_nextqa_lora")(), [f"model={folder}", "grid.image_size=28"]
    )
    assert "A100-40G" in plan(config, gpus=1)
    assert image_tokens(config, None) == tokens


def test_the_questions_of_a_training_file_are_counted(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=3)
    config = override(
        load("recipes", "llava_1_5_7b_nextqa")(),
        [f"path={path}", f"videos={tmp_path / 'videos'}", "packed=1"],
    )
    assert (examples_of(config).num, examples_of(config).questions) == (6, 6)
    assert "counted in" in examples_of(config).source


@pytest.mark.slow
def test_lora_learns_little_of_the_34b() -> None:
    config = replace(load("recipes", "llava_1_6_34b_nextqa")(), lora_rank=128)
    total, learning = parameters(shape(config)[0])
    assert 34e9 < sum(total.values()) < 37e9
    assert 0 < sum(learning.values()) < 0.04 * sum(total.values())


def test_a_sequence_beyond_the_context_is_not_planned() -> None:
    recipe = load("recipes", "llava_1_5_7b_nextqa")()
    for name in ("llava_1_5_7b_nextqa", "llava_1_6_34b_nextqa", "smolvlm2_500m_nextqa", "qwen3_vl_8b_nextqa"):
        config = load("recipes", name)()
        check_context(config, settings_of(config.model, located="")[0], questions=config.packed)
    settings, _ = settings_of(recipe.model, located="")
    frames = override(recipe, ["grid.look=frames", "grid.frames=6", "packed=4"])
    check_context(frames, settings, questions=4)
    assert "34,132 questions in 3,870 sequences" in plan(
        override(recipe, ["packed=64"]), gpus=1
    )  # 9 of a video
    line = "3456 tokens of images and 8 questions of about 80 are a sequence of 4176, and its context has 4096: set a"
    with pytest.raises(UserError, match=line):
        plan(override(frames, ["packed=8"]), gpus=1)
