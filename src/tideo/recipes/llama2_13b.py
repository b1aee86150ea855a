"""TOPA on Llama-2-13B: the published hyper-parameters (arXiv 2405.13911 and its code).

    accelerate launch --num_processes 4 -m tideo prealign \
        llama2_13b --set tideos=textvid.json --out runs/topa_llama2_13b

Published hardware: 4 x A100-40G, one to two days; `--plan --gpus 4` says 35 GiB on each and 62 hours. Effective
batch 128 on four processes; the learning rate follows it, base_lr x batch / 256, as published. Not run by us.
"""

from dataclasses import replace

from tideo.recipes.llama2_7b import llama2_7b
from tideo.train.topa.config import PrealignConfig


def llama2_13b() -> PrealignConfig:
    recipe = llama2_7b()
    train = replace(recipe.train, batch=8, base_lr=8e-3)
    return replace(recipe, llm="meta-llama/Llama-2-13b-hf", train=train)
