"""`tideo doctor`: what models would use, and a GPU that would lie idle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import accelerator
from conftest import Tideo
from tideo import doctor, gpus
from tideo.models.parts import parts


@pytest.fixture
def two_gpus() -> Iterator[None]:
    with accelerator.devices(count=2, limit=2 * 10**9):
        yield


def test_the_parts_of_models_and_where_they_would_run(two_gpus: None) -> None:
    assert parts("dollhouse-topa") == [
        "language model (2.3M parameters, 9.3 MB) on standin:0 in float32, attention sdpa",
        "encoder dollhouse-clip on standin:0 in float32",
        "memory on standin:0 in half precision",
    ]
    of_grid = "image-text model (3.4M parameters, 6.8 MB) on standin:1 in bfloat16, attention eager"
    assert parts("dollhouse-grid", args=["device=standin:1", "dtype=bf16", "attn=eager"]) == [of_grid]
    assert "dollhouse-grid: image-text model" in parts("dollhouse-fusion", args=["device=cpu"])[-1]
    assert parts("openai:x@http://localhost:1/v1") == ["runs on the server http://localhost:1/v1"]


def test_doctor_lists_the_gpus_and_what_a_named_model_would_use(two_gpus: None, tideo: Tideo) -> None:
    done = tideo("doctor", "--model", "dollhouse-topa", "--model-args", "device=standin:7")
    assert re.search(r"^ok  device   standin:1      standin, 2 GB, bfloat16$", done.stdout, re.M)
    assert (
        "ok  uses     dollhouse-topa language model (2.3M parameters, 9.3 MB) on standin:0 in float32"
        in done.stdout
    )
    assert "NO  uses     dollhouse-topa device=standin:7: there are 2, the first is standin:0" in done.stdout
    assert done.returncode == 3


def test_model_args_without_a_model_are_refused(tideo: Tideo) -> None:
    done = tideo("doctor", "--model-args", "dtype=bf16")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--model-args is of the models that --model names" in done.stderr


@pytest.mark.parametrize(("variable", "ok"), [(None, False), ("", None)])
def test_an_idle_gpu_is_no_ok(
    variable: str | None, ok: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpus" / "0000:00:00.0").mkdir(parents=True)
    monkeypatch.setattr(gpus, "PROC", tmp_path)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    (check,) = (check for check in doctor._devices() if check.name == "idle GPU")
    assert check.detail.startswith("1 NVIDIA GPU, ")
    assert check.ok is ok


def test_more_processes_than_gpus_fail(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    failed = [check for check in doctor._devices() if check.ok is False]
    assert [check.name for check in failed] == ["processes"]
    assert "process 2 of this machine has no standin device of its own, there are 2" in failed[0].detail
