"""TOPA on Qwen3-0.6B with SigLIP 2, on one consumer card.

    tideo prealign qwen3_0_6b --set tideos=textvid.json

Planned for one RTX4090: 9 GiB and 22 hours (`--plan`). TOPA's own encoder is CLIP-L: `--set
encoder=openai/clip-vit-large-patch14`. Tasks, epochs and schedule are TOPA's (arXiv 2405.13911 and its code). Two
deviations: Qwen3 normalises its keys, which TOPA's LLaMA-adapter does not, so LoRA of rank 16 learns in its place;
and the rates, 2e-4 for LoRA and ten times that for the projection, are our choice. No published result. Not run by
us.
"""

from dataclasses import replace

from tideo.recipes.llama2_7b import llama2_7b
from tideo.train.topa.config import PrealignConfig

SIGLIP_2 = "google/siglip2-so400m-patch14-384"


def qwen3_0_6b() -> PrealignConfig:
    recipe = llama2_7b()
    train = replace(recipe.train, batch=32, accumulate=8, base_lr=None, lr=2e-4, proj_lr=10.0)
    return replace(recipe, llm="Qwen/Qwen3-0.6B", encoder=SIGLIP_2, adapter="lora", lora_rank=16, train=train)
