"""TOPA on Llama-2-13B: the published hyper-parameters (arXiv 2405.13911 and its code).

    accelerate launch --num_processes 4 -m tideo prealign \
        llama2_13b --set tideos=textvid.json --out runs/topa_llama2_13b

Published hardware: 4 x A100-40G, one to two days. Effective batch 128 on four processes: the learning rate
follows the published rule, base rate x effective batch / 256, so change both together. Not run by us.
"""

from tideo.train.topa.config import PrealignConfig, PrealignTraining


def llama2_13b() -> PrealignConfig:
    return PrealignConfig(
        llm="meta-llama/Llama-2-13b-hf",
        encoder="openai/clip-vit-large-patch14",
        tideos="textvid.json",
        train=PrealignTraining(
            epochs=20,
            batch=8,
            accumulate=4,
            lr=8e-3 * 128 / 256,
            warmup=1 / 20,
            weight_decay=0.1,
            bf16=True,
            save_steps=1000,
        ),
    )
