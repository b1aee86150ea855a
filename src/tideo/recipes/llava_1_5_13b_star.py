"""Finetuning: LLaVA-1.5-13B on 3 x 3 grids of STAR.

    accelerate launch --num_processes 4 -m tideo finetune llava_1_5_13b_star \
        --set path=train.json --set videos=videos --out runs/llava_1_5_13b_star

Published hardware: 4 x A100-40G with ZeRO-3 (arXiv 2409.07748). Sixteen bytes a parameter exceed that, so the
optimiser's states are in host memory; `--plan --gpus 4` prints how much.
Published result: "competitive" on STAR, no figure.
The paper gives no learning rate, epochs or prompt: these are LLaVA-1.5's (arXiv 2310.03744 and its finetuning
script; one epoch). A step has fewer questions than its 128, since only questions about the same images share a
sequence. Not run by us.
"""

from dataclasses import replace

from tideo.models.grid.settings import GridSettings
from tideo.recipes.llava_1_5_13b_nextqa import llava_1_5_13b_nextqa
from tideo.train.grid.config import FinetuneConfig


def llava_1_5_13b_star() -> FinetuneConfig:
    grid = GridSettings(rows=3, cols=3)
    return replace(llava_1_5_13b_nextqa(), data="star", path="train.json", grid=grid)
