"""TOPA on Llama-3-8B: the published hyper-parameters (arXiv 2405.13911 and its code).

    accelerate launch --num_processes 4 -m tideo prealign \
        llama3_8b --set tideos=textvid.json --out runs/topa_llama3_8b

Published hardware: 4 x A100-40G, one to two days; `--plan --gpus 4` says 29 GiB on each and 38 hours. Effective
batch 448 on four processes; the learning rate follows it, base_lr x batch / 256, as published. Not run by us.
"""

from dataclasses import replace

from tideo.recipes.llama2_7b import llama2_7b
from tideo.train.topa.config import PrealignConfig


# The published code resets RoPE to theta 10000 for Llama-3 too; here the model keeps its own theta.
def llama3_8b() -> PrealignConfig:
    recipe = llama2_7b()
    train = replace(recipe.train, batch=14, accumulate=8)
    return replace(recipe, llm="meta-llama/Meta-Llama-3-8B", train=train)
