"""Finetuning: the tiny SmolVLM on one look of the dollhouse's training episodes, all looks with 64 visual tokens.

    tideo train dollhouse_looks_start
    tideo finetune dollhouse_looks
    tideo finetune dollhouse_looks --set grid.look=video --set grid.image_size=64 \
        --set model=runs/dollhouse_looks_start/video --out runs/dollhouse_looks_video

It starts from the folder of the first command for that look; the second command is of the grid. `frames` is set as
`video` is; `panels` needs `grid.panels=4`, `grid.rows=2`, `grid.cols=2` and `grid.image_size=96`. Connector and
language model learn; the tower is frozen. One to six minutes on two cores that were shared with other work. Expected
of 536 test questions (three seeds): grid 59.9%, panels 60.1%, frames 59.0%, video 34.0% (docs/results.md).
"""

from tideo.tiny.looks import LOOKS
from tideo.train.grid.config import FinetuneConfig, GridTraining


def dollhouse_looks() -> FinetuneConfig:
    return FinetuneConfig(
        model="runs/dollhouse_looks_start/grid",
        data="dollhouse",
        num=120,
        grid=LOOKS["grid"],
        modules=("projector", "llm"),
        keep_features=False,  # which is for LLaVA
        packed=8,
        train=GridTraining(steps=80, batch=4, lr=4e-4, warmup=0.1, log_steps=10, save_steps=80),
    )
