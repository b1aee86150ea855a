"""Pre-alignment of the dollhouse's language model on dollhouse text, with the dollhouse's CLIP.

    tideo prealign dollhouse --out runs/dollhouse-topa

One thread, about nine minutes. The bundled model `dollhouse-topa` began with this recipe and went on for 1,350
steps with noise_std=0.03; its card tells. Expected after the recipe alone: about 52% of
validation questions on pictures.
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
        memory="frames",
        memory_rows=8192,
        # Letters do not bind in a model this small, so options are listed and answered in words; the summary,
        # which tells all steps in order, teaches the order of frames most densely.
        tasks=TaskWeights(choose=0.1, answer=0.6, summarise=0.3),
        choose_form="listed_text",
        form="text",
        reduction="mean",
        train=PrealignTraining(steps=1600, batch=64, lr=2e-3, proj_lr=3.0, weight_decay=0.01),
    )
