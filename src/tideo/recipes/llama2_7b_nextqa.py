"""TOPA's second half: Llama-2-7B after its pre-alignment on text learns from the training videos of NExT-QA.

    accelerate launch --num_processes 4 -m tideo prealign \
        llama2_7b_nextqa --set path=train.csv --set videos=videos --out runs/llama2_7b_nextqa

It goes on from `runs/llama2_7b`; `--set start=FOLDER` names another pre-alignment, `--set share=0.1` draws a tenth of
the videos. Published: five epochs, base_lr 1e-2, effective batch 320 (the code of arXiv 2405.13911), here on four
processes. How long the rate warms up is not published: one epoch, as in the pre-alignment. The image features are taken
as they are; `--set project=true` projects them, as for a model that saw no video. Not run by us.
"""

from dataclasses import replace

from tideo.recipes.llama2_7b import llama2_7b
from tideo.train.topa.config import PrealignConfig, TaskWeights


def llama2_7b_nextqa() -> PrealignConfig:
    recipe = llama2_7b()
    return replace(
        recipe,
        tideos=None,
        start="runs/llama2_7b",
        data="nextqa",
        path="train.csv",
        videos="videos",
        tasks=TaskWeights(choose=1.0, answer=0.0, summarise=0.0),
        train=replace(recipe.train, epochs=5, batch=20, base_lr=1e-2, warmup=1 / 5),
    )
