"""The Trainer on the device that a recipe names."""

from __future__ import annotations

import torch
from accelerate.utils import DistributedType  # type: ignore[import-untyped]
from transformers import TrainingArguments


def on_one_device(arguments: TrainingArguments, device: torch.device) -> TrainingArguments:
    """The arguments, for this device if the training is one process; each of several has the device of its rank.

    By itself the Trainer takes the first GPU, and splits each batch among all that it finds (DataParallel).
    """
    if arguments.distributed_state.distributed_type == DistributedType.NO:
        if device.index is not None:
            torch.get_device_module(device).set_device(device)
        arguments._n_gpu = int(device.type != "cpu")
        arguments.__dict__["_setup_devices"] = device  # what its cached property would hold
    return arguments
