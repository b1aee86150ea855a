"""Finetuning: LLaVA-1.6-34B on 4 x 4 grids of NExT-QA.

    accelerate launch --num_processes 8 -m tideo finetune llava_1_6_34b_nextqa \
        --set path=train.csv --set videos=videos --out runs/llava_1_6_34b_nextqa

Published hardware: 8 x A100-40G with ZeRO-3 (arXiv 2409.07748). Sixteen bytes a parameter exceed that, so the
optimiser's states are in host memory; `--plan --gpus 8` prints how much. Published result: 78.4 on NExT-QA.
The paper gives no learning rate, epochs or prompt: these are LLaVA-1.5's (arXiv 2310.03744 and its finetuning
script; one epoch). A step has about 88 questions instead of its 128, since only questions about the same images share a
sequence. Not run by us.
"""

from dataclasses import replace

from tideo.recipes.llava_1_5_13b_nextqa import llava_1_5_13b_nextqa
from tideo.train.grid.config import FinetuneConfig


def llava_1_6_34b_nextqa() -> FinetuneConfig:
    recipe = llava_1_5_13b_nextqa()
    return replace(recipe, model="llava-hf/llava-v1.6-34b-hf", train=replace(recipe.train, batch=2))
