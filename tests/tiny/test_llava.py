"""The dollhouse's LLaVA before training."""

from __future__ import annotations

import torch

from tideo.tiny.llava import resized_positions


def test_places_of_a_larger_picture_are_interpolated() -> None:
    places = torch.randn(17, 5)
    assert torch.allclose(resized_positions(places, side=4), places, atol=1e-6)
    larger = resized_positions(places, side=6)
    assert larger.shape == (37, 5)
    assert torch.equal(larger[0], places[0])


def test_places_start_again_in_each_cell() -> None:
    places = torch.randn(17, 5)
    tiled = resized_positions(places, side=8, cells=(2, 2))[1:].reshape(8, 8, 5)
    for rows in (slice(0, 4), slice(4, 8)):
        for cols in (slice(0, 4), slice(4, 8)):
            assert torch.allclose(tiled[rows, cols].flatten(0, 1), places[1:], atol=1e-6)
