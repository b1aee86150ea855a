"""Finetuning: Qwen3-VL-8B on 4 x 4 grids of NExT-QA, with LoRA beside the language model, on one card of 40 GB or more.

    tideo finetune qwen3_vl_8b_nextqa --set path=train.csv --set videos=videos

Planned for one A100-40G: 30 GiB and 4 hours; on a card of 24 GB add `--set load_4bit=true --set train.batch=1 --set
train.accumulate=128` (17 GiB, 8 hours). A token is 32 x 32 pixels, so a grid of 896 pixels has 784 tokens, 49 of each
frame. Its own video input, with as many frames: `--set grid.look=video --set grid.image_size=448`. Only the projector
(with DeepStack's) and LoRA learn. No published result for grids. Rank 128 and the rates, 2e-4 and 2e-5 for the
projector, are those of LLaVA-1.5's script for LoRA. Needs `pip install 'tideo[vlm]'`. Not run by us.
"""

from tideo.models.grid.families import suiting
from tideo.train.grid.config import FinetuneConfig, GridTraining


def qwen3_vl_8b_nextqa() -> FinetuneConfig:
    return FinetuneConfig(
        model="Qwen/Qwen3-VL-8B-Instruct",
        data="nextqa",
        path="train.csv",
        videos="videos",
        grid=suiting("qwen3_vl"),
        lora_rank=128,
        lora_alpha=256,
        keep_features=False,
        train=GridTraining(
            epochs=1,
            batch=4,
            accumulate=32,
            lr=2e-4,
            projector_lr=2e-5,
            bf16=True,
            gradient_checkpointing=True,
        ),
    )
