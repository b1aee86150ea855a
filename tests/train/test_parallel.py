"""How GPUs share a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tideo.train.parallel import Sharding, check_parallel, deepspeed_file, sharding
from tideo.types import UserError


@pytest.mark.parametrize(
    ("parallel", "expected"),
    [
        (None, Sharding()),
        ("fsdp", Sharding(name="FSDP", weights=True, gradients=True, optimizer=True)),
        ("zero2", Sharding(name="ZeRO-2", gradients=True, optimizer=True)),
        ("zero3", Sharding(name="ZeRO-3", weights=True, gradients=True, optimizer=True)),
        (
            "zero3_offload",
            Sharding(name="ZeRO-3", weights=True, gradients=True, optimizer=True, offload=True),
        ),
    ],
)
def test_what_is_shared(parallel: str | None, expected: Sharding) -> None:
    assert sharding(parallel) == expected


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "none"}}}')
    assert sharding(str(own)) == Sharding(name="ZeRO-1", optimizer=True)
    own.write_text("[]")
    with pytest.raises(UserError, match="no configuration of DeepSpeed"):
        sharding(str(own))
    with pytest.raises(UserError, match="expected fsdp, zero2, zero3, zero3_offload or the path"):
        deepspeed_file("zero4")


def test_sharding_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.parallel=fsdp needs GPUs"):
        check_parallel("fsdp")
