"""Feature distillation: the dollhouse's LLaVA learns the frame vectors of `dollhouse-topa`.

    tideo train dollhouse_distill

The language model is that of `dollhouse-topa`. Tower (patches of 24 pixels, so 64 tokens for 16 frames) and projector
learn to give each cell of a 4 x 4 grid the vector of its frame. `tideo finetune dollhouse_grid` starts from the folder
that this writes. Two cores with bfloat16 instructions, 3 GB; distillation and finetuning together took 16 min 26 s.
"""

from tideo.recipes.dollhouse_grid import dollhouse_grid
from tideo.tiny.distill import DistillConfig
from tideo.train.grid.config import GridTraining


def dollhouse_distill() -> DistillConfig:
    return DistillConfig(
        teacher="dollhouse-topa",
        num=4_000,
        patch_size=24,
        grid=dollhouse_grid().grid,
        train=GridTraining(
            steps=3000, batch=16, lr=2e-3, warmup=0.1, weight_decay=0.02, log_steps=50, save_steps=500
        ),
    )
