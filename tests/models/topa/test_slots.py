"""The temporal embeddings of frames by their time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tideo.models.topa.slots import even_places, in_slots


def embeddings(table: nn.Embedding, places: list[float]) -> torch.Tensor:
    video_BTD = torch.zeros(1, len(places), 3)
    num_B = torch.tensor([len(places)])
    values, vectors, used = in_slots(video_BTD, num_B, torch.tensor([places]), table=table, pad_frames="time")
    assert values.shape == video_BTD.shape
    assert used.tolist() == [len(places)]
    return vectors[0].detach()


@given(slots=st.integers(1, 200))
def test_even_frames_have_the_embeddings_of_their_numbers(slots: int) -> None:
    table = nn.Embedding(slots, 4)
    places = even_places(slots)
    torch.testing.assert_close(embeddings(table, places), table.weight.detach(), atol=1e-3, rtol=0)
    zeros = torch.zeros(1, slots, 3)
    _, by_default, _ = in_slots(zeros, torch.tensor([slots]), None, table=table, pad_frames="time")
    torch.testing.assert_close(by_default[0], table.weight, atol=1e-3, rtol=0)


@given(slots=st.integers(2, 32), place=st.floats(0, 1))
def test_between_two_slots_lies_their_mean_by_distance(slots: int, place: float) -> None:
    table = nn.Embedding(slots, 1)
    with torch.no_grad():
        table.weight[:, 0] = torch.arange(slots)
    (value,) = embeddings(table, [place])[:, 0].tolist()
    assert value == pytest.approx(min(max(place * slots - 0.5, 0), slots - 1), abs=1e-4)
