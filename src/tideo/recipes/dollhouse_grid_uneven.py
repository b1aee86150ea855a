"""Finetuning of `dollhouse-grid` for frames that a selector chooses for each question.

    tideo finetune dollhouse_grid_uneven

It goes on from the bundled model; half of the episodes have their frames at uneven times.
"""

from dataclasses import replace

from tideo.recipes.dollhouse_grid import dollhouse_grid
from tideo.train.grid.config import FinetuneConfig


def dollhouse_grid_uneven() -> FinetuneConfig:
    recipe = dollhouse_grid()
    return replace(
        recipe,
        model="dollhouse-grid",
        num=1_200,
        uneven=0.5,
        train=replace(recipe.train, steps=80, lr=2.5e-4, muon_lr=0.001, warmup=0.1),
    )
