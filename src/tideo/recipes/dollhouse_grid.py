"""Finetuning: a tiny LLaVA on 4 x 4 grids of the dollhouse's training episodes, bundled as `dollhouse-grid`.

    tideo finetune dollhouse --out runs/dollhouse-grid

One core beside other work 50 minutes. Expected: 52% of test questions (one seed; docs/finetune.md).
"""

from tideo.models.grid_settings import GridSettings
from tideo.train.finetune_config import FinetuneConfig, GridTraining


def dollhouse_grid() -> FinetuneConfig:
    return FinetuneConfig(
        model="dollhouse",
        num=4_000,
        num_captions=4_000,
        grid=GridSettings(rows=4, cols=4, image_size=192, prompt_style="plain", form="text", intro=""),
        parts=("projector", "llm"),
        packed=16,
        align=GridTraining(steps=200, batch=32, lr=2e-3, muon_lr=0.01, log_steps=50),
        train=GridTraining(steps=1200, batch=16, lr=1e-3, muon_lr=0.005, log_steps=50, save_steps=250),
    )
