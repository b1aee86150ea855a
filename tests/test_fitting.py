"""A model that is too large for a GPU is one line with what would fit."""

from __future__ import annotations

import pytest

import accelerator
from tideo.encoders.dual import load_encoder
from tideo.loading import Loading
from tideo.models.load import load_model
from tideo.models.topa.checkpoint import load_llm
from tideo.types import UserError

MB = 10**6


@pytest.mark.parametrize(
    ("limit", "settings", "message"),
    [
        (
            1 * MB,
            {},
            r"does not fit on standin:1: its weights take 9.3 MB, 1.0 MB are free; set device_map=auto or device=cpu$",
        ),
        (
            3 * MB,
            {},
            r"; set load_8bit=true \(about 2.6 MB\) or load_4bit=true \(about 1.4 MB\) or device_map=auto",
        ),
        (
            6 * MB,
            {"dtype": "fp32"},
            r"its weights take 9.3 MB, .*; set dtype=bf16 \(about 4.6 MB\) or load_8bit",
        ),
    ],
)
def test_a_language_model(limit: int, settings: dict[str, str], message: str) -> None:
    with accelerator.devices(limit=limit), pytest.raises(UserError, match=message):
        load_llm("dollhouse-lm", loading=Loading(device="standin:1", **settings))


def test_an_encoder_and_a_memory_have_no_4_bits() -> None:
    message = r"dollhouse-clip does not fit on standin:0: .* MB are free; set device=cpu$"
    with accelerator.devices(limit=1 * MB), pytest.raises(UserError, match=message):
        load_encoder("dollhouse-clip", loading=Loading(device="standin:0"))
    message = r"memory.safetensors does not fit on standin:0: its weights take 8.4 MB, .*; set device=cpu$"
    with accelerator.devices(limit=20 * MB), pytest.raises(UserError, match=message):
        load_model("dollhouse-topa", args=["device=standin:0"])
