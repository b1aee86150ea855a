"""Alignment on captions, LLaVA's first stage: the projector of the dollhouse's LLaVA learns from single pictures.

    tideo train dollhouse_distill --set train=none --out runs/dollhouse_llava
    tideo finetune dollhouse_align
    tideo finetune dollhouse_grid --set model=runs/dollhouse_align

This replaces feature distillation: the first command writes an untrained LLaVA, the second aligns it.
"""

from tideo.models.grid.settings import GridSettings
from tideo.train.grid.config import FinetuneConfig, GridTraining


def dollhouse_align() -> FinetuneConfig:
    return FinetuneConfig(
        model="runs/dollhouse_llava",
        data="dollhouse_captions",
        num=8_000,
        grid=GridSettings(
            rows=4,
            cols=4,
            image_size=192,
            encoder="dollhouse-clip",
            prompt_style="plain",
            form="text",
            intro="",
        ),
        modules=("projector",),
        train=GridTraining(steps=500, batch=16, lr=1e-3, log_steps=50),
    )
