"""Alignment on captions, LLaVA's first stage: the projector of the dollhouse's LLaVA learns from single pictures.

    tideo train dollhouse_distill --set train=none --out runs/dollhouse_llava
    tideo finetune dollhouse_align
    tideo finetune dollhouse_grid --set model=runs/dollhouse_align

This replaces feature distillation: the first command writes an untrained LLaVA, the second aligns it.
"""

from tideo.recipes.dollhouse_grid import dollhouse_grid
from tideo.train.grid.config import FinetuneConfig, GridTraining


def dollhouse_align() -> FinetuneConfig:
    return FinetuneConfig(
        model="runs/dollhouse_llava",
        data="dollhouse_captions",
        num=8_000,
        grid=dollhouse_grid().grid,
        modules=("projector",),
        train=GridTraining(steps=500, batch=16, lr=1e-3, log_steps=50),
    )
