"""Which videos look familiar: what fits, what does not, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tideo.encoders.familiar import Familiar, learn_familiar
from tideo.types import Features, UserError

AXES = np.array([1.0, 0.3, 0.05, 0.05])  # how far fitting features spread along each axis


def video(seed: int, *, shift: float = 0.0, num: int = 8, encoder: str = "clip") -> Features:
    values = np.random.default_rng(seed).normal(0, AXES, (num, 4)) + np.array([0, 0, 2.0, shift])
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return Features(values_TD=unit.astype(np.float32), pts_s_T=None, modality="image", encoder=encoder)


HELD_IN = [video(seed) for seed in range(100)]


def test_the_distance_is_mahalanobis() -> None:
    known = Familiar(
        mean_D=np.zeros(2, np.float32),
        precision_DD=np.diag([4.0, 1.0]).astype(np.float32),
        farthest=1.0,
        encoder="e",
    )
    frames = Features(
        values_TD=np.array([[1, 0], [0, 1], [0, 1]], np.float32), pts_s_T=None, modality="image", encoder="e"
    )
    assert known.distance(frames) == pytest.approx(1.0)  # of 2, 1, 1 the median


def test_what_fits_is_familiar_and_a_small_step_aside_is_not(tmp_path: Path) -> None:
    learn_familiar(HELD_IN).save(tmp_path / "known.safetensors")
    known = Familiar.load(tmp_path / "known.safetensors")
    assert known.encoder == "clip"
    strange = [known.distance(video(seed)) > known.farthest for seed in range(200, 300)]
    assert sum(strange) <= 15
    assert all(known.distance(video(seed, shift=1.0)) > known.farthest for seed in range(20))


def test_the_percentile_says_how_many_are_called_strange() -> None:
    known = learn_familiar(HELD_IN, percentile=80)
    assert sum(known.distance(f) > known.farthest for f in HELD_IN[1::2]) == 10


def test_wrong_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two or more videos, not of 1"):
        learn_familiar(HELD_IN[:1])
    known = learn_familiar(HELD_IN)
    with pytest.raises(UserError, match="no frame to compare"):
        known.distance(video(0, num=0))
    with pytest.raises(UserError, match="of siglip cannot be compared with those of clip"):
        known.distance(video(0, encoder="siglip"))
    (tmp_path / "x").write_bytes(b"text")
    for path in (tmp_path / "none", tmp_path / "x"):
        with pytest.raises(UserError, match="does not tell which videos are familiar"):
            Familiar.load(path)
