"""Why torch finds no GPU, on machines that are faked: files of a driver, torch's build, variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tideo import gpus
from tideo.loading import Loading
from tideo.types import UserError

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
    "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
NONE = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One without accelerator, driver and variables."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(gpus, "PROC", tmp_path / "nvidia")
    monkeypatch.setattr(gpus, "KFD", tmp_path / "kfd")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in {name for names in gpus.HIDING.values() for name in names}:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def build(monkeypatch: pytest.MonkeyPatch, *, cuda: str | None, error: str = "") -> None:
    def init() -> None:
        if error:
            raise RuntimeError(error)

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "init", init)


def with_nvidia(machine: Path, *, num: int) -> None:
    for index in range(num):
        (machine / "nvidia" / "gpus" / f"0000:0{index}:00.0").mkdir(parents=True)


def refused(device: str) -> str:
    with pytest.raises(UserError, match=f"^device={device}: ") as error:
        Loading(device=device).torch_device()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    build(monkeypatch, cuda=None)
    assert (gpus.seen_by_drivers(), gpus.why_idle()) == ({}, None)
    assert Loading().torch_device() == torch.device("cpu")
    assert "is a build for the CPU alone, and no GPU's driver is found; set device=cpu" in refused("cuda")
    build(monkeypatch, cuda="12.8", error=NONE)
    assert "no GPU's driver is found (Found no NVIDIA driver on your system)" in refused("cuda:1")
    assert "finds no accelerator here; set device=cpu" in refused("xpu")


def test_a_build_for_the_cpu_leaves_a_gpu_idle(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(monkeypatch, cuda=None)
    with_nvidia(machine, num=2)
    line = gpus.why_idle()
    assert re.match(r"2 NVIDIA GPUs, but torch \S+ is a build for the CPU alone: install the one", line or "")
    assert refused("cuda") == f"device=cuda: {line}"


def test_a_driver_that_is_too_old(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(monkeypatch, cuda="12.8", error=TOO_OLD)
    with_nvidia(machine, num=1)
    expected = (
        r"1 NVIDIA GPU, but torch \S+ cannot use it: The NVIDIA driver on your system is too old \(found version "
        r"11040\); update the driver, or install a torch for an older CUDA"
    )
    assert re.fullmatch(expected, gpus.why_idle() or "")
    assert re.fullmatch("device=cuda: " + expected, refused("cuda"))


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_variable_that_hides_all_gpus(value: str, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(monkeypatch, cuda="12.8")
    with_nvidia(machine, num=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus.why_idle() == f"2 NVIDIA GPUs, hidden by CUDA_VISIBLE_DEVICES='{value}': unset it to use them"


def test_nvidia_smi_counts_where_there_is_no_proc(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = machine / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-1)'\n")
    tool.chmod(0o755)
    assert gpus.seen_by_drivers() == {"NVIDIA": 1}
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    assert gpus.seen_by_drivers() == {}


def test_gpus_of_amd_are_nodes_with_simd_units(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(monkeypatch, cuda=None)
    for node, units in enumerate((0, 304)):
        (machine / "kfd" / str(node)).mkdir(parents=True)
        (machine / "kfd" / str(node) / "properties").write_text(f"cpu_cores_count 8\nsimd_count {units}\n")
    assert gpus.seen_by_drivers() == {"AMD": 1}
    assert (gpus.why_idle() or "").startswith("1 AMD GPU, but torch ")


def test_mps_is_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert (
        refused("mps")
        == "device=mps: mps is the GPU of a Mac, and this is none; set device=cpu or leave it out"
    )
