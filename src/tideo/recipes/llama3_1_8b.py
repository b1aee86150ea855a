"""TOPA on Llama-3.1-8B with SigLIP 2: the hyper-parameters published for Llama-3-8B (arXiv 2405.13911 and its code).

    accelerate launch --num_processes 4 -m tideo prealign \
        llama3_1_8b --set tideos=textvid.json --out runs/topa_llama3_1_8b

Planned for 4 x A100-40G: 29 GiB on each and 38 hours (`--plan --gpus 4`). Effective batch 448 on four processes; the
learning rate follows it, base_lr x batch / 256, as published. TOPA's own encoder is CLIP-L: `--set
encoder=openai/clip-vit-large-patch14`. No published result for this model. Not run by us.
"""

from dataclasses import replace

from tideo.recipes.llama3_8b import llama3_8b
from tideo.recipes.qwen3_0_6b import SIGLIP_2
from tideo.train.topa.config import PrealignConfig


def llama3_1_8b() -> PrealignConfig:
    return replace(llama3_8b(), llm="meta-llama/Llama-3.1-8B", encoder=SIGLIP_2)
