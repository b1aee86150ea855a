"""Two steps of each training on a device, and where they computed: `python tests/trainings.py KIND DEVICE FOLDER`.

In a process of its own for the stand-in accelerator, whose backward pass must be the first of its process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import accelerator
from placement import Operations

# What a model's layers consist of.
LAYERS = {
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "linear",
    "convolution",
    "embedding",
    "native_layer_norm",
    "_softmax",
}


@contextmanager
def watched(facts: dict[str, Any]) -> Iterator[None]:
    """facts: where the layers' operations ran, and where parameters, gradients and the optimiser's states lie."""
    places: set[str] = set()

    def after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            states = [
                s for s in optimizer.state[parameter].values() if isinstance(s, torch.Tensor) and s.ndim
            ]
            places.update(str(x.device) for x in (parameter, parameter.grad, *states) if x is not None)

    hook = register_optimizer_step_post_hook(after_step)
    try:
        with Operations() as operations:
            yield
    finally:
        hook.remove()
    facts["optimised"] = sorted(places)
    facts["layers"] = sorted({place for name, place in operations.calls if name in LAYERS})


def prealigned(device: str, folder: Path) -> Path:
    from tideo.dollhouse.export import ask_split, tideo_of
    from tideo.textvid.schema import dump, from_tideo
    from tideo.train.topa.config import PrealignConfig, PrealignTraining
    from tideo.train.topa.prealign import prealign
    from tiny import save_clip, save_llm

    if not (folder / "llm").exists():
        save_clip(folder / "clip")
        save_llm(folder / "llm", max_tokens=2048)
        dump([from_tideo(tideo_of(a, seed=0)) for a in ask_split("train", num=4)], folder / "textvid.json")
    config = PrealignConfig(
        llm=str(folder / "llm"), encoder=str(folder / "clip"), tideos=str(folder / "textvid.json"),
        prompt_style="plain", adapter="llama-adapter", device=device,
        train=PrealignTraining(steps=2, batch=2, lr=1e-2, bf16=False, save_steps=1, log_steps=1),
    )  # fmt: skip
    return prealign(config, out=folder / f"out-{device.replace(':', '')}" / "topa")


def finetuned(device: str, folder: Path) -> Path:
    from dataclasses import replace

    from grid_training import config_for
    from tideo.train.grid.finetune import finetune

    config = config_for(folder / device.replace(":", ""), device=device)
    config = replace(config, kl=0.1, train=replace(config.train, steps=2))
    return finetune(config, out=folder / f"out-{device.replace(':', '')}" / "grid")


TRAININGS: dict[str, Callable[[str, Path], Path]] = {"prealign": prealigned, "finetune": finetuned}


def trained(kind: str, device: str, folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    with watched(facts):
        facts["out"] = str(TRAININGS[kind](device, folder))
    return facts


if __name__ == "__main__":
    from accelerate import PartialState

    kind, device, folder = sys.argv[1:]
    with accelerator.devices(count=2):
        # accelerate knows the devices that torch ships with.
        PartialState.default_device = property(lambda self: torch.device(device.partition(":")[0]))
        print(json.dumps(trained(kind, device, Path(folder))))
