"""Texts moved onto the memory before training, as image features will be at inference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tideo.encoders.memory import Memory, project
from tideo.train.topa.config import PrealignConfig, PrealignTraining
from tideo.train.topa.memory import projected_texts
from tideo.types import Features, UserError


def feature(*rows: tuple[float, ...]) -> Features:
    values = np.array(rows, dtype=np.float32)
    return Features(
        values_TD=values / np.linalg.norm(values, axis=1, keepdims=True),
        pts_s_T=None,
        modality="text",
        encoder="e",
    )


THREE = [feature((1, 0, 0), (0, 1, 0)), feature((0.9, 0.1, 0)), feature((0, 0.2, 1))]


def test_a_tideo_is_moved_onto_the_others_only() -> None:
    moved = projected_texts(THREE, num_rows=100, temperature=1000.0, noise_std=0.0, seed=0)
    # The nearest row of another Tideo takes all the weight.
    np.testing.assert_allclose(moved[1].values_TD, THREE[0].values_TD[:1], atol=1e-5)
    np.testing.assert_allclose(moved[0].values_TD[0], THREE[1].values_TD[0], atol=1e-5)
    assert all(np.allclose(np.linalg.norm(m.values_TD, axis=1), 1, atol=1e-5) for m in moved)


def test_the_weights_are_those_of_the_projection() -> None:
    others = torch.from_numpy(np.concatenate([THREE[1].values_TD, THREE[2].values_TD]))
    expected = project(THREE[0], Memory(values_MD=others, encoder="e"), temperature=7.0)
    moved = projected_texts(THREE, num_rows=100, temperature=7.0, noise_std=0.0, seed=0)[0]
    np.testing.assert_allclose(moved.values_TD, expected.values_TD, atol=1e-5)


def test_noise_is_drawn_from_the_seed() -> None:
    def once(seed: int) -> np.ndarray:
        return projected_texts(THREE, num_rows=100, temperature=5.0, noise_std=0.3, seed=seed)[0].values_TD

    np.testing.assert_array_equal(once(1), once(1))
    assert not np.allclose(once(1), once(2))


def test_a_share_of_moved_texts_needs_a_memory_of_frames() -> None:
    plain = PrealignConfig(llm="l", encoder="e", tideos="t", train=PrealignTraining(steps=1))
    with pytest.raises(UserError, match=r"projected=0\.5 with memory=captions"):
        replace(plain, projected=0.5)
    with pytest.raises(UserError, match="from 0 to 1"):
        replace(plain, projected=2.0, memory="frames")
