"""A model that lies on two devices answers as on one: what a forward pass is given follows its layers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from PIL import Image

import accelerator
from placement import SAMPLES, assert_same
from tideo.models.grid.chat import ImageChat
from tideo.models.interface import Controls
from tideo.models.load import load_model
from tideo.types import Sample, Video
from tiny_vlms import made

WORDS = [("what is he doing?", ("a book", "washing dishes", "tea")), ("and then?", ("tea", "reading"))]


def spread(model: Any, *, layers: str, last: tuple[str, ...]) -> None:
    """Put the second half of the `layers`, and what comes after them, on the second device."""
    num = len(model.get_submodule(layers))
    modules = {
        name.rpartition(".")[0]
        for name, _ in [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    }
    places = {m: torch.device("standin", int(m in last)) for m in modules if not m.startswith(f"{layers}.")}
    places |= {f"{layers}.{i}": torch.device("standin", int(i >= num // 2)) for i in range(num)}
    dispatch_model(model, places, force_hooks=True)


@pytest.fixture(autouse=True)
def nothing_stays_on_the_devices() -> Iterator[None]:
    yield
    gc.collect()  # accelerate's hooks refer to their modules and these to them


def test_an_image_text_model() -> None:
    model, processor = made("llava")
    chat = ImageChat(model, processor=processor, name="llava")
    images = [Image.fromarray(np.full((28, 28, 3), shade, dtype=np.uint8)) for shade in (40, 200)]
    asked = [([images[0]], WORDS), ([images[1]], WORDS[:1]), ([], WORDS[:1])]
    expected = chat.loglikelihoods(asked, at_once=2)
    with accelerator.devices(count=2):
        spread(model, layers="model.language_model.layers", last=("model.language_model.norm", "lm_head"))
        found = chat.loglikelihoods(asked, at_once=2)
    for ours, plain in zip(found, expected, strict=True):
        for one, other in zip(ours, plain, strict=True):
            assert one.sums == pytest.approx(other.sums, abs=1e-3)


@pytest.mark.slow
def test_a_language_model_with_its_adapter() -> None:
    model, video = load_model("dollhouse-topa", args=["device=cpu"]), Video(id="a", path="a.mp4")
    samples = [Sample(id=q, video=video, question=q, options=options) for q, options in SAMPLES]
    blind = Controls(blind=True)
    expected = model.answer(video, samples, seen=None, controls=blind)
    with accelerator.devices(count=2):
        llm: Any = model.lm.llm  # type: ignore[attr-defined]
        llm = llm.get_base_model() if hasattr(llm, "get_base_model") else llm
        spread(llm, layers="model.layers", last=("model.norm",))  # its head is its embedding
        model.lm.beside_llm_()  # type: ignore[attr-defined]
        assert_same(model.answer(video, samples, seen=None, controls=blind), expected, atol=1e-3)
