"""Devices and precision: what a machine has, what is asked of it, and one line where these differ."""

from __future__ import annotations

import importlib.machinery
import sys
from typing import Any

import pytest
import torch

import accelerator
from tideo.loading import Loading
from tideo.train.trainer import trainer_arguments
from tideo.types import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "gpu 1"}, "device=gpu 1: expected auto, cpu, cuda"),
        ({"dtype": "int8"}, "dtype=int8: expected auto, bf16, fp16 or fp32"),
        ({"load_4bit": True, "load_8bit": True}, "exclude each other"),
        ({"load_4bit": True, "device": "cpu"}, "4-bit weights need a GPU and bitsandbytes: leave load_4bit"),
        ({"load_8bit": True, "device": "cpu"}, "8-bit weights need a GPU and bitsandbytes: leave load_8bit"),
        ({"device": "cpu", "device_map": "auto"}, "leave device=cpu out"),
    ],
)
def test_settings_that_no_machine_takes_are_refused_at_once(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Loading(**settings)  # type: ignore[arg-type]


def test_options_are_those_of_from_pretrained() -> None:
    assert Loading(device="cpu").options() == {"dtype": "auto"}
    assert Loading(device="cpu", dtype="bf16", attn="sdpa").options() == {
        "dtype": torch.bfloat16,
        "attn_implementation": "sdpa",
    }
    assert Loading(device_map="balanced").options()["device_map"] == "balanced"


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(UserError, match="torch knows no such device"):
        Loading(device="abacus").torch_device()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "standin:2"}, "device=standin:2: there are 2, the first is standin:0"),
        ({"device": "cuda"}, "device=cuda: torch finds standin here; set device=standin or leave it out"),
        ({"device": "xpu:1"}, "device=xpu:1: torch finds standin here"),
        ({"dtype": "bf16"}, "dtype=bf16: standin:0 has no bfloat16; set dtype=fp16"),
        ({"load_4bit": True}, r"bitsandbytes is not installed: run pip install 'tideo\[bitsandbytes\]'"),
        ({"attn": "flash_attention_2"}, r"pip install 'tideo\[flash_attn\]'"),
        ({"attn": "flash_attention_2", "dtype": "fp32"}, "computes in bf16 or fp16 alone: set dtype=bf16"),
        ({"attn": "flash_attention_2", "device": "cpu"}, "flash_attention_2 needs a GPU: set attn=sdpa"),
    ],
)
def test_what_this_machine_cannot_do_is_refused(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bitsandbytes", "flash_attn"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    with accelerator.devices(count=2, bfloat16=False), pytest.raises(UserError, match=message):
        Loading(**settings).options(saved=torch.float16)


def test_a_gpu_without_bfloat16_takes_float16_in_its_place() -> None:
    with accelerator.devices(bfloat16=False):
        assert Loading().torch_dtype(torch.bfloat16) == torch.float16
        assert Loading().torch_dtype(torch.float32) == "auto"
        assert Loading(device="cpu").torch_dtype(torch.bfloat16) == "auto"
        with pytest.raises(UserError, match="standin:0 has no bfloat16; set train"):
            trainer_arguments(
                "out", steps=1, batch=1, seed=0, bf16=True, save_steps=1, log_steps=1,
                device=Loading().torch_device(),
            )  # fmt: skip


def test_each_process_takes_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with accelerator.devices(count=2):
        assert (
            Loading().torch_device() == Loading(device="standin").torch_device() == torch.device("standin:1")
        )
        with pytest.raises(
            UserError, match="device=standin:0 puts all 2 processes of this machine on one dev"
        ):
            Loading(device="standin:0").options()
        with pytest.raises(UserError, match="device_map=auto spreads each of 2 processes over all GPUs"):
            Loading(device_map="auto").options()
        assert Loading(device="cpu").torch_device() == torch.device("cpu")
    message = "process 1 of this machine has no standin device of its own"
    with accelerator.devices(count=1), pytest.raises(UserError, match=message):
        Loading().torch_device()


def test_the_dtype_of_a_models_own_config_gives_way_to_float16_as_that_of_the_weights() -> None:
    with accelerator.devices(bfloat16=False):
        assert Loading().as_saved("bf16").options()["dtype"] == torch.float16
        assert Loading().as_saved("fp32").options()["dtype"] == torch.float32
        assert Loading(dtype="fp32").as_saved("bf16").options()["dtype"] == torch.float32
    with accelerator.devices():
        assert Loading().as_saved("bf16").options()["dtype"] == torch.bfloat16


@pytest.fixture
def bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("bitsandbytes")
    module.__spec__ = importlib.machinery.ModuleSpec("bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)


@pytest.mark.usefixtures("bitsandbytes")
def test_4_bit_weights_compute_in_the_dtype_that_is_set() -> None:
    with accelerator.devices():
        for dtype, computes in (("auto", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)):
            options = Loading(dtype=dtype, load_4bit=True).options(saved=torch.float32)
            assert options["quantization_config"].bnb_4bit_compute_dtype == computes


@pytest.mark.usefixtures("bitsandbytes")
def test_4_bit_weights_are_nf4_with_double_quantisation() -> None:
    with accelerator.devices():
        options = Loading(device="standin:1", load_4bit=True).options(place=False)
    assert options["device_map"] == {"": torch.device("standin:1")}  # quantised while they are read
    assert options["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert options["quantization_config"].bnb_4bit_use_double_quant
