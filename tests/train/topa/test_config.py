"""The learning rate of a pre-alignment, and what run.json of earlier versions says."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tideo.registry import load
from tideo.runs import same_recipe, write_run
from tideo.types import UserError


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [
        ("llama2_7b", 5e-3 * 288 / 256),
        ("llama2_13b", 8e-3 * 128 / 256),
        ("llama3_8b", 5e-3 * 448 / 256),
        ("dollhouse_topa", 2e-3),
    ],
)
def test_the_published_rate_follows_the_batch(recipe: str, rate: float) -> None:
    train = load("recipes", recipe)().train
    assert train.rate(4) == pytest.approx(rate)
    assert train.rate(8) == pytest.approx(rate * (2 if train.base_lr else 1))


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """It recorded the result of the rule as the rate, and sharding under another name."""
    config = load("recipes", "llama2_7b")()
    plain = asdict(config)
    earlier = plain | {"train": plain["train"] | {"lr": 5e-3 * 288 / 256, "deepspeed": None}}
    for name in ("base_lr", "parallel", "gradient_checkpointing"):
        del earlier["train"][name]
    write_run(tmp_path, recipe=earlier)
    same_recipe(tmp_path, config)
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    with pytest.raises(UserError, match=r"train\.parallel is None there and "):
        same_recipe(tmp_path, replace(config, train=replace(config.train, parallel=str(own))))
