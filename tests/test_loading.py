"""Devices and precision: what a machine has, what is asked of it, and one line where these differ."""

from __future__ import annotations

import pytest
import torch

from tideo.loading import Loading
from tideo.types import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "gpu 1"}, "device=gpu 1: expected auto, cpu, cuda"),
        ({"dtype": "int8"}, "dtype=int8: expected auto, bf16, fp16 or fp32"),
        ({"load_4bit": True, "load_8bit": True}, "exclude each other"),
        ({"device": "cpu", "device_map": "auto"}, "leave device=cpu out"),
    ],
)
def test_settings_that_no_machine_takes_are_refused_at_once(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Loading(**settings)  # type: ignore[arg-type]


def test_a_device_that_is_not_here_is_refused() -> None:
    if torch.accelerator.is_available():
        pytest.skip("for a machine without an accelerator")
    assert Loading().torch_device() == torch.device("cpu")
    for name in ("cuda", "cuda:7", "mps"):
        with pytest.raises(UserError, match=f"device={name}: torch .* finds no accelerator here"):
            Loading(device=name).torch_device()
    with pytest.raises(UserError, match="torch knows no such device"):
        Loading(device="abacus").torch_device()


def test_options_are_those_of_from_pretrained() -> None:
    assert Loading(device="cpu").options() == {"dtype": "auto"}
    assert Loading(device="cpu", dtype="bf16", attn="sdpa").options() == {
        "dtype": torch.bfloat16,
        "attn_implementation": "sdpa",
    }
    assert Loading(device_map="balanced").options()["device_map"] == "balanced"
