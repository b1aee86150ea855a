"""Finetuning: the dollhouse's LLaVA starts from `dollhouse-topa`, its language model and its sight.

    tideo finetune dollhouse_from_topa --out runs/dollhouse-from-topa

Tower (with patches of 24 pixels, 64 tokens for 16 frames) and projector first learn to show the language model what the
text-only model sees of each frame; then projector and language model learn on grids. One core beside other work 31
minutes. Measured, one seed: 78.9% of 470 questions about 40 validation episodes drawn as in training, but 53.9% of the
1,062 test questions about rendered videos (docs/finetune.md).
"""

from tideo.models.grid_settings import GridSettings
from tideo.train.finetune_config import FinetuneConfig, GridTraining


def dollhouse_from_topa() -> FinetuneConfig:
    return FinetuneConfig(
        model="dollhouse",
        teacher="dollhouse-topa",
        num=4_000,
        num_watched=4_000,
        num_captions=3_200,
        paste_captions=True,
        tile_places=True,
        patch_size=24,
        lookups=6,
        grid=GridSettings(rows=4, cols=4, image_size=192, prompt_style="plain", form="text", intro=""),
        parts=("projector", "llm"),
        packed=20,
        imitate=GridTraining(
            steps=3000, batch=16, lr=2e-3, warmup=0.1, weight_decay=0.02, log_steps=50, save_steps=500
        ),
        train=GridTraining(steps=400, batch=16, lr=5e-4, muon_lr=0.002, log_steps=50, save_steps=200),
    )
