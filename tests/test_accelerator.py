"""The stand-in accelerator refuses and counts as a GPU does; else the placement tests would prove nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

import accelerator


@pytest.fixture(autouse=True)
def _devices() -> Iterator[None]:
    with accelerator.devices(count=2):
        yield


def test_torch_finds_it_only_while_it_is_there() -> None:
    assert torch.accelerator.current_accelerator(check_available=True) == torch.device("standin")
    assert torch.accelerator.device_count() == 2
    torch.accelerator.empty_cache()
    with accelerator.devices(count=0):
        assert torch.accelerator.current_accelerator() != torch.device("standin")


def test_operands_on_two_devices_are_refused_and_numbers_are_not() -> None:
    ours = torch.arange(3.0, device="standin:1")
    for other in (torch.ones(3), torch.ones(3, device="standin:0")):
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            ours + other
    assert (ours + torch.tensor(2.0)).tolist() == [2, 3, 4]
    assert ours[torch.tensor([2, 0])].tolist() == [2, 0]
    with pytest.raises(TypeError, match="can't convert standin:1 device type tensor to numpy"):
        ours.numpy()
    with pytest.raises(RuntimeError, match="invalid device ordinal 2"):
        torch.ones(3, device="standin:2")


def test_a_module_moves_with_its_tied_weights_and_computes_the_same() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 4))
    module[2].weight = module[0].weight
    x = torch.randn(2, 3, 4)
    expected = F.scaled_dot_product_attention(*[module(x).detach()] * 3, is_causal=True)
    module.to("standin:1")
    assert module[2].weight is module[0].weight
    assert {parameter.device for parameter in module.parameters()} == {torch.device("standin:1")}
    y = module(x.to("standin:1"))
    assert torch.allclose(F.scaled_dot_product_attention(y, y, y, is_causal=True).cpu(), expected, atol=1e-6)
    with torch.autocast("standin", dtype=torch.bfloat16):
        assert module[0](y).dtype == torch.bfloat16
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    assert torch.load(file)["0.weight"].device == torch.device("standin:1")


def test_memory_is_counted_by_storage_and_ends() -> None:
    with accelerator.devices(limit=10_000) as devices:
        before = devices.live[0]
        kept = torch.zeros(1000, device="standin:0")[10:]
        assert devices.live[0] == before + 4000
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 8000 bytes"):
            torch.zeros(2000, device="standin:0")
        del kept
        assert devices.live[0] == before
        assert devices.peak[0] == before + 4000


def test_a_device_may_lack_bfloat16() -> None:
    with (
        accelerator.devices(bfloat16=False),
        pytest.raises(RuntimeError, match="standin:0 has no bfloat16"),
    ):
        torch.ones(3, device="standin:0").bfloat16()
