"""Finetuning: LLaVA-OneVision-7B on 4 x 4 grids of NExT-QA, all weights of projector and language model.

    accelerate launch --num_processes 4 -m tideo finetune llava_onevision_7b_nextqa \
        --set path=train.csv --set videos=videos --out runs/llava_onevision_7b_nextqa

Planned for 4 x A100-80G or H100 with ZeRO-3: 45 GiB on each and 2 hours; on 4 x A100-40G set
train.parallel=zero3_offload. A grid of 768 pixels is two by two of its tiles of 384 pixels, four frames in each,
beside the whole: 3,699 tokens. Its own video input takes 196 tokens for each frame: `--set grid.look=video --set
grid.image_size=384`. No published result for grids. The rate of 1e-5 is LLaVA-OneVision's own (arXiv 2408.03326),
epoch and prompt are LLaVA-1.5's. Needs `pip install 'tideo[vlm]'`. Not run by us.
"""

from tideo.models.grid.families import suiting
from tideo.train.grid.config import FinetuneConfig, GridTraining


def llava_onevision_7b_nextqa() -> FinetuneConfig:
    return FinetuneConfig(
        model="llava-hf/llava-onevision-qwen2-7b-ov-hf",
        data="nextqa",
        path="train.csv",
        videos="videos",
        grid=suiting("llava_onevision"),
        packed=4,
        keep_features=False,
        train=GridTraining(
            epochs=1,
            batch=2,
            accumulate=4,
            lr=1e-5,
            bf16=True,
            gradient_checkpointing=True,
            parallel="zero3",
        ),
    )
