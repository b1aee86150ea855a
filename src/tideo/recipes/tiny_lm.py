"""The dollhouse's language model: a Llama of 2.3 million parameters, trained on dollhouse text alone.

    tideo train tiny_lm --out runs/tiny_lm

About an hour on two cores. One run: 93% of questions answered from captions, before/after 98 to 100%
(`python -m tideo.lab.reading_gate`, docs/training.md).
"""

from tideo.tiny.lm import LMConfig, Stage


def tiny_lm() -> LMConfig:
    return LMConfig(
        stages=(
            Stage(steps=450, batch=48, drills=1.0, bare=0.9, plain=1.0),
            Stage(steps=600, batch=32, drills=0.6, glimpses=0.4, bare=0.4, plain=0.4),
            Stage(steps=450, batch=32, drills=0.6, glimpses=0.4, bare=0.3, plain=0.3, soft_frames=0.6),
            Stage(
                steps=700,
                drills=0.15,
                glimpses=0.15,
                bare=0.3,
                plain=0.2,
                facts=2,
                letters=0.03,
                shown_options=0.05,
                soft_frames=0.4,
            ),
            Stage(
                steps=450,
                batch=24,
                drills=0.5,
                glimpses=0.05,
                bare=0.2,
                plain=0.2,
                facts=1,
                soft_frames=0.4,
            ),
            Stage(
                steps=950,
                glimpses=0.1,
                forms=(("full", 0.5), ("main", 0.1), ("actions", 0.2), ("list", 0.2)),
                retrieval_tasks=2,
                facts=2,
                repeated_kinds=("CW", "CH", "TC", "DC", "DO", "TP"),
                repeats=1,
                letters=0.03,
                shown_options=0.05,
                soft_frames=0.4,
            ),
        )
    )
