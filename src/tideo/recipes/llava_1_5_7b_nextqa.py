"""Finetuning: LLaVA-1.5-7B on 4 x 4 grids of NExT-QA, all weights of projector and language model.

    accelerate launch --num_processes 4 -m tideo finetune llava_1_5_7b_nextqa \
        --set path=train.csv --set videos=videos --out runs/llava_1_5_7b_nextqa

Planned for 4 x A100-80G or H100 with ZeRO-3, or 8 x A100-40G; `--plan --gpus 4` prints memory and hours for several
cards. On 4 x A100-40G set train.parallel=zero3_offload; for one card of 24 GB take `llava_1_5_7b_nextqa_lora`.
Published result: none for this size; 78.4 on NExT-QA with 34B (arXiv 2409.07748). Learning rate, epoch and prompt are
LLaVA-1.5's own (arXiv 2310.03744 and its finetuning script). Not run by us.
"""

from dataclasses import replace

from tideo.recipes.llava_1_5_13b_nextqa import llava_1_5_13b_nextqa
from tideo.train.grid.config import FinetuneConfig


def llava_1_5_7b_nextqa() -> FinetuneConfig:
    recipe = llava_1_5_13b_nextqa()
    return replace(recipe, model="llava-hf/llava-1.5-7b-hf", train=replace(recipe.train, parallel="zero3"))
