"""Pre-alignment of the dollhouse's language model on dollhouse text, with the dollhouse's CLIP.

    tideo prealign dollhouse --out runs/dollhouse-topa

One core, about nine minutes, of which two encode the captions. The bundled model `dollhouse-topa` is seed 0. Expected:
docs/results.md has three seeds of it with all controls.
"""

from tideo.train.prealign import PrealignConfig, PrealignTraining
from tideo.train.tasks import TaskWeights


def dollhouse() -> PrealignConfig:
    return PrealignConfig(
        llm="dollhouse-lm",
        encoder="dollhouse-clip",
        tideos="dollhouse",
        num_tideos=5_000,
        prompt_style="plain",
        adapter="lora",
        lora_rank=16,
        init_std=0.02,
        from_llm=True,
        # Of noise, share and temperature the values that did best on validation videos; TOPA has 0, 0 and 100;
        # this CLIP has learned a scale of 39.
        noise_std=0.05,
        projected=0.5,
        temperature=30.0,
        memory="frames",
        memory_rows=32_768,
        # Letters do not bind in a model this small, so options are listed and answered in words; the summary,
        # which tells all steps in order, teaches the order of frames most densely.
        tasks=TaskWeights(choose=0.1, answer=0.6, summarise=0.3),
        choose_form="listed_text",
        form="text",
        reduction="mean",
        train=PrealignTraining(steps=2400, batch=64, lr=2e-3, proj_lr=3.0, weight_decay=0.01),
    )
