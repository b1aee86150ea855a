"""A recipe: pre-alignment of a small language model, in a minute on one core.

    tideo prealign short_topa --out runs/short_topa

Expected: a model directory that `tideo eval --model runs/short_topa` takes; it has learned little.
"""

from __future__ import annotations

from tideo.train.topa.config import PrealignConfig, PrealignTraining


def short_topa() -> PrealignConfig:
    """A hundred steps on five hundred Tideos of the dollhouse."""
    return PrealignConfig(
        llm="dollhouse-lm",
        encoder="dollhouse-clip",
        tideos="dollhouse",
        num_tideos=500,
        prompt_style="plain",
        adapter="lora",
        form="text",
        train=PrealignTraining(steps=100, batch=16),
    )
