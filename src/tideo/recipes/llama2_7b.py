"""TOPA on Llama-2-7B: the published hyper-parameters (arXiv 2405.13911 and its code).

    accelerate launch --num_processes 4 -m tideo prealign \
        llama2_7b --set tideos=textvid.json --out runs/topa_llama2_7b

Published hardware: 4 x A100-40G, one to two days; `--plan --gpus 4` says 28 GiB on each and 32 hours. Effective
batch 288 on four processes; the learning rate follows it, base_lr x batch / 256, as published. Not run by us.
"""

from tideo.train.topa.config import PrealignConfig, PrealignTraining


def llama2_7b() -> PrealignConfig:
    return PrealignConfig(
        llm="meta-llama/Llama-2-7b-hf",
        encoder="openai/clip-vit-large-patch14",
        tideos="textvid.json",
        train=PrealignTraining(
            epochs=20,
            batch=18,
            accumulate=4,
            base_lr=5e-3,
            warmup=1 / 20,
            weight_decay=0.1,
            bf16=True,
            save_steps=1000,
        ),
    )
