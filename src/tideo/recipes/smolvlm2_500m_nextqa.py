"""Finetuning: SmolVLM2-500M on 4 x 4 grids of NExT-QA, all weights of projector and language model, on a consumer card.

    tideo finetune smolvlm2_500m_nextqa --set path=train.csv --set videos=videos

Planned for one RTX4090: 9 GiB and a quarter of an hour (`--plan`). Its processor enlarges an image to four tiles of
512 pixels on each side, so a grid of 2,048 pixels has one frame in each tile, 1,088 tokens. Its own video input takes
a tile for each frame: `--set grid.look=video --set grid.image_size=512`. No published result for grids. Learning
rate, epoch and prompt are LLaVA-1.5's own (arXiv 2310.03744 and its finetuning script). Needs `pip install
'tideo[vlm]'`. Not run by us.
"""

from tideo.models.grid.families import suiting
from tideo.train.grid.config import FinetuneConfig, GridTraining


def smolvlm2_500m_nextqa() -> FinetuneConfig:
    return FinetuneConfig(
        model="HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        data="nextqa",
        path="train.csv",
        videos="videos",
        grid=suiting("smolvlm"),
        packed=8,
        keep_features=False,
        train=GridTraining(epochs=1, batch=2, accumulate=8, bf16=True, gradient_checkpointing=True),
    )
