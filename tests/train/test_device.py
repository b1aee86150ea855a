"""A training computes on the device of its recipe, and learns what it learns on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import accelerator
from conftest import REPOSITORY
from tideo.train.trainer import trainer_arguments
from trainings import trained


def test_one_process_trains_on_one_device(tmp_path: Path) -> None:
    with accelerator.devices(count=2) as devices:
        arguments = trainer_arguments(
            tmp_path, steps=1, batch=2, seed=0, bf16=False, save_steps=1, log_steps=1,
            device=torch.device("standin:1"),
        )  # fmt: skip
        assert (arguments.device, arguments.n_gpu, devices.current) == (torch.device("standin:1"), 1, 1)
        assert arguments.train_batch_size == 2  # the Trainer would give each GPU as many


KINDS = ["prealign", "finetune"]


def in_a_process(kind: str, device: str, folder: Path) -> dict[str, Any]:
    paths = [str(REPOSITORY / "src"), str(REPOSITORY / "tests")]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests" / "trainings.py"), kind, device, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(kind: str, device: str, ours: dict[str, Any], folder: Path) -> None:
    assert (ours["layers"], ours["optimised"]) == ([device], [device])
    plain = trained(kind, "cpu", folder)
    assert (plain["layers"], plain["optimised"]) == (["cpu"], ["cpu"])
    for name, tensor in load_file(Path(plain["out"]) / "model.safetensors").items():
        other = load_file(Path(ours["out"]) / "model.safetensors")[name]
        assert (other - tensor).abs().mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_on_a_stand_in_accelerator(kind: str, tmp_path: Path) -> None:
    check(kind, "standin:0", in_a_process(kind, "standin:0", tmp_path), tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_on_a_gpu(kind: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    check(kind, "cuda:0", trained(kind, "cuda:0", tmp_path), tmp_path)
