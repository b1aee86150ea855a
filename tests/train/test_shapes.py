"""The shapes of published checkpoints have the parameters that are counted in their weights."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

from tideo.train.plan import settings_of
from tideo.train.shapes import SHAPES

# LLaVA-1.6 and LLaVA-OneVision are derived, see shapes.py; the others are what is counted in published weights.
PARAMETERS = {
    "openai/clip-vit-large-patch14": 427_616_513,
    "google/siglip2-so400m-patch14-384": 1_136_008_498,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "llava-hf/llava-1.5-7b-hf": 7_063_427_072,
    "llava-hf/llava-1.5-13b-hf": 13_351_494_656,
    "llava-hf/llava-v1.6-34b-hf": 34_752_083_968,
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": 8_030_807_584,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": 507_482_304,
}
CONTEXTS = {
    "meta-llama/Llama-2-7b-hf": 4096,
    "meta-llama/Meta-Llama-3-8B": 8192,
    "meta-llama/Llama-3.1-8B": 131_072,
    "Qwen/Qwen3-0.6B": 40_960,
    "llava-hf/llava-1.5-7b-hf": 4096,
    "llava-hf/llava-1.5-13b-hf": 4096,
    "llava-hf/llava-v1.6-34b-hf": 4096,
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": 32_768,
    "Qwen/Qwen3-VL-8B-Instruct": 262_144,
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": 8192,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_the_parameters_of_the_checkpoint(name: str) -> None:
    config, _ = settings_of(name, located="")
    kinds = {
        "clip": AutoModel,
        "siglip": AutoModel,
        "llama": AutoModelForCausalLM,
        "qwen3": AutoModelForCausalLM,
    }
    with torch.device("meta"):
        model = kinds.get(config.model_type, AutoModelForImageTextToText).from_config(config)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_shape_has_the_context_of_the_checkpoint(name: str) -> None:
    assert settings_of(name, located="")[0].get_text_config().max_position_embeddings == CONTEXTS[name]
