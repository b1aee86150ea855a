"""Finetuning of `dollhouse-grid` for frames that a selector chooses for each question.

    tideo finetune dollhouse_grid_uneven

It goes on from the bundled model; half of the episodes have their frames at uneven times. About five minutes of one
core. One seed: of 1,062 test questions 75.8% on even frames (`dollhouse-grid` 75.6), 76.2% with `aks` (74.6), 69.3%
with `question` (70.2): 80 steps do not regain what choosing frames costs; `even=0.5` at inference does
(docs/results.md).
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
