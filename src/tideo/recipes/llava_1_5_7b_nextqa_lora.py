"""Finetuning: LLaVA-1.5-7B on 4 x 4 grids of NExT-QA, with LoRA beside the language model, on one card of 24 GB.

    tideo finetune llava_1_5_7b_nextqa_lora --set path=train.csv --set videos=videos

On a card of 12 GB add `--set load_4bit=true --set train.batch=1 --set train.accumulate=16` (QLoRA). `--plan` prints
memory and hours for several cards. Rank 128 and the rates, 2e-4 and 2e-5 for the projector, are those of LLaVA-1.5's
script for LoRA. No published result. Not run by us.
"""

from dataclasses import replace

from tideo.recipes.llava_1_5_7b_nextqa import llava_1_5_7b_nextqa
from tideo.train.grid.config import FinetuneConfig


def llava_1_5_7b_nextqa_lora() -> FinetuneConfig:
    recipe = llava_1_5_7b_nextqa()
    train = replace(recipe.train, parallel=None, batch=2, accumulate=8, lr=2e-4, projector_lr=2e-5)
    return replace(recipe, lora_rank=128, lora_alpha=256, packed=4, train=train)
