"""TOPA on Qwen3-8B with SigLIP 2.

    accelerate launch --num_processes 4 -m tideo prealign \
        qwen3_8b --set tideos=textvid.json --out runs/topa_qwen3_8b

Planned for 4 x A100-40G: 28 GiB on each and 39 hours (`--plan --gpus 4`). TOPA's own encoder is CLIP-L: `--set
encoder=openai/clip-vit-large-patch14`. LoRA and rates as in `qwen3_0_6b`, the batch of 448 is that published for
Llama-3-8B (arXiv 2405.13911 and its code). No published result. Not run by us.
"""

from dataclasses import replace

from tideo.recipes.qwen3_0_6b import qwen3_0_6b
from tideo.train.topa.config import PrealignConfig


def qwen3_8b() -> PrealignConfig:
    recipe = qwen3_0_6b()
    return replace(recipe, llm="Qwen/Qwen3-8B", train=replace(recipe.train, batch=14))
