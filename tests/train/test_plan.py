"""The arithmetic of plans, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from tideo.train.plan import GIB, Memory, hours, memory_lines, time_line, training_flops
from tideo.types import UserError


def test_operations_are_those_of_the_passes() -> None:
    assert training_flops(parameters=10, learning=0, tokens=3, checkpointing=False) == 3 * 10 * 4
    assert training_flops(parameters=10, learning=10, tokens=1, checkpointing=False) == 60  # the usual 6 N
    assert training_flops(parameters=10, learning=10, tokens=1, checkpointing=True) == 80


def test_hours_are_shared_by_the_cards() -> None:
    one_hour = 312e12 * 0.35 * 3600
    assert hours(one_hour, gpus=1, on="A100-40G") == pytest.approx(1)
    assert hours(one_hour, gpus=4, on="A100-40G") == pytest.approx(0.25)
    assert "0.2 hours on 4 x A100-40G" in time_line(one_hour, gpus=4, on="A100-40G")
    assert "3.0 days on 1 x A100-40G" in time_line(72 * one_hour, gpus=1, on="A100-40G")
    with pytest.raises(UserError, match=r"unknown card .A100.; did you mean"):
        hours(1, gpus=1, on="A100")


def test_a_plan_says_whether_the_card_is_large_enough() -> None:
    memory = Memory(weights=23 * GIB, gradients=0, optimizer=0, gathered=0, activations=0, host=0)
    assert "  does not fit one RTX4090" in "\n".join(memory_lines(memory, on="RTX4090"))
    assert "  fits one A100-40G" in "\n".join(memory_lines(memory, on="A100-40G"))
