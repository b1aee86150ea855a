"""Finetuning: a tiny LLaVA on 4 x 4 grids of the dollhouse's training episodes, bundled as `dollhouse-grid`.

    tideo finetune dollhouse --out runs/dollhouse-grid

It starts from `dollhouse-topa`. Tower (patches of 24 pixels: 64 tokens for 16 frames) and projector first learn to show
the language model what the text-only model sees of each frame; then projector and language model learn on grids, the
tower frozen.
Two cores with bfloat16 instructions, 16 minutes, 3 GB. Expected: 76% of test questions (three seeds: 75.6, 75.5, 76.8);
seed 0 is the bundled `dollhouse-grid`.
"""

from tideo.models.grid.settings import GridSettings
from tideo.train.grid.config import FinetuneConfig, GridTraining


def dollhouse_grid() -> FinetuneConfig:
    return FinetuneConfig(
        model="dollhouse",
        teacher="dollhouse-topa",
        num=4_000,
        num_watched=4_000,
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
