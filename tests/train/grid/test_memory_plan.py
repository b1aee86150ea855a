"""The memory estimate of a finetuning."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tideo.config import override
from tideo.registry import load
from tideo.train.grid.memory_plan import image_tokens, memory_of, parameters, plan, shape


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
    assert four.host == 12 * sum(learning.values())
    assert four.gpu < 40 * 2**30
    on_gpu = memory_of(replace(config, train=replace(config.train, parallel=None)), model, gpus=4)
    assert on_gpu.gpu > 40 * 2**30  # why the recipe keeps the optimiser in host memory
    assert "LlavaForConditionalGeneration" in plan(config, gpus=4)


@pytest.mark.parametrize(
    ("recipe", "tokens"), [("llava_1_5_13b_nextqa", 576), ("llava_1_6_34b_nextqa", 1176)]
)
def test_an_image_has_as_many_tokens_as_the_processor_makes(recipe: str, tokens: int) -> None:
    config = load("recipes", recipe)()
    assert image_tokens(shape(config)[0].config, config.grid.image_size) == tokens


def test_a_plan_shards_only_what_the_recipe_shards() -> None:
    config = load("recipes", "llava_1_5_13b_nextqa")()
    alone = plan(override(config, ["train.parallel=none"]), gpus=4)
    assert "the whole model on each of 4 GPUs, bf16; on each GPU, GiB:" in alone
    model, _ = shape(
        alone_config := override(config, ["train.parallel=none", "lora_rank=8", "load_4bit=true"])
    )
    total, learning = (sum(counts.values()) for counts in parameters(model))
    assert memory_of(alone_config, model, gpus=4).weights == 0.5 * (total - learning) + 2 * learning


@pytest.mark.slow
def test_lora_learns_little_of_the_34b() -> None:
    config = replace(load("recipes", "llava_1_6_34b_nextqa")(), lora_rank=128)
    total, learning = parameters(shape(config)[0])
    assert 34e9 < sum(total.values()) < 37e9
    assert 0 < sum(learning.values()) < 0.04 * sum(total.values())
