"""Finetuning: LLaVA-1.5-13B on 4 x 4 grids of NExT-QA.

    accelerate launch --num_processes 4 -m tideo finetune llava_1_5_13b_nextqa \
        --set path=train.csv --set videos=videos --out runs/llava_1_5_13b_nextqa

Published hardware: 4 x A100-40G with ZeRO-3 (arXiv 2409.07748). Sixteen bytes a parameter exceed that, so the
optimiser's states are in host memory; `--plan --gpus 4` prints how much.
Published result: none for this size; 78.4 on NExT-QA with 34B.
The paper gives no learning rate, epochs or prompt: these are LLaVA-1.5's (arXiv 2310.03744 and its finetuning
script; one epoch). A step has about 88 questions instead of its 128, since only questions about the same images share a
sequence. Not run by us.
"""

from tideo.models.grid.settings import GridSettings
from tideo.train.grid.config import FinetuneConfig, GridTraining


def llava_1_5_13b_nextqa() -> FinetuneConfig:
    return FinetuneConfig(
        model="llava-hf/llava-1.5-13b-hf",
        data="nextqa",
        path="train.csv",
        videos="videos",
        grid=GridSettings(rows=4, cols=4),
        packed=8,
        train=GridTraining(
            epochs=1,
            batch=4,
            accumulate=1,
            bf16=True,
            gradient_checkpointing=True,
            parallel="zero3_offload",
        ),
    )
