"""Training computes in bfloat16 where the machine does, unless it is set otherwise."""

from __future__ import annotations

import pytest
import torch

import accelerator
from tideo.config import override
from tideo.device import has_bfloat16, memory_reported, threads_for
from tideo.recipes.dollhouse_grid import dollhouse_grid
from tideo.recipes.llava_1_5_13b_nextqa import llava_1_5_13b_nextqa
from tideo.types import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False), ({}, False)],
)  # fmt: skip
def test_a_cpu_has_bfloat16_by_its_instructions(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bfloat16(CPU) is expected


@pytest.mark.parametrize("instructions", [True, False])
def test_a_recipe_of_ours_takes_the_precision_of_the_machine_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch, instructions: bool
) -> None:
    if torch.accelerator.is_available():
        pytest.skip("the accelerator decides here")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": instructions})
    recipe = dollhouse_grid()
    assert recipe.train.bf16 is instructions
    assert override(recipe, ["train.bf16=true"]).train.bf16 is True
    assert llava_1_5_13b_nextqa().train.bf16 is True  # as published, wherever its plan is made


def test_a_full_gpu_is_a_fault_of_what_it_was_shown() -> None:
    with (
        pytest.raises(UserError, match="the GPU's memory is not enough: take fewer or smaller frames"),
        memory_reported(),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_model_that_cannot_be_spread_says_so() -> None:
    with accelerator.devices(count=2):
        layers = [torch.nn.Linear(1, 1).to(f"standin:{index}") for index in (0, 1)]
        spread = torch.nn.Sequential(*layers)
        message = (
            "the model lies on standin:0 and standin:1, and does not compute when it is spread: leave devi"
        )
        with pytest.raises(UserError, match=message), threads_for(spread):
            spread(torch.ones(1, 1, device="standin:0"))
        with pytest.raises(RuntimeError, match="Expected all tensors"), threads_for(layers[0]):
            layers[0](torch.ones(1, 1))
