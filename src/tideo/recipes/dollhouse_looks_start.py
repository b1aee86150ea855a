"""Feature distillation: a tiny SmolVLM learns the vectors of `dollhouse-topa` for frames in several looks.

    tideo train dollhouse_looks_start

It writes a folder for each look below `runs/dollhouse_looks_start`: `grid`, `panels`, `frames` and `video`, with the
same weights. `tideo finetune dollhouse_looks` goes on from one of them. Needs torchvision and num2words. 18 minutes on
two cores that were shared with other work.
"""

from tideo.tiny.looks import LooksConfig
from tideo.train.grid.config import GridTraining


def dollhouse_looks_start() -> LooksConfig:
    return LooksConfig(
        teacher="dollhouse-topa",
        patch_size=24,
        merged=1,
        num=800,
        train=GridTraining(
            steps=1000, batch=16, lr=2e-3, muon_lr=0.01, warmup=0.05, log_steps=25, save_steps=250
        ),
    )
