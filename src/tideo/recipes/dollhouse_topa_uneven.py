"""Pre-alignment of `dollhouse-topa` for frames that a selector chooses for each question.

    tideo prealign dollhouse_topa_uneven

It goes on from the bundled model, whose temporal embeddings even frames keep; half of the examples have uneven frames.
About four minutes of one core. One seed: of 1,062 test questions 74.7% on even frames (`dollhouse-topa` 75.0), and with
frames chosen for the question no more than `dollhouse-topa` (docs/results.md): 200 steps do not regain what that costs.
"""

from dataclasses import replace

from tideo.recipes.dollhouse_topa import dollhouse_topa
from tideo.train.topa.config import PrealignConfig


def dollhouse_topa_uneven() -> PrealignConfig:
    recipe = dollhouse_topa()
    return replace(
        recipe,
        start="dollhouse-topa",
        pad_frames="time",
        uneven=0.5,
        train=replace(recipe.train, steps=200, lr=1e-3),
    )
