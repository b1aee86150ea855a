"""Image-text models of several families, and the adapters of language models, compute on a GPU as on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from placement import all_on, answers, assert_same, tolerance
from tideo.loading import Loading
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.vlm import GridVLM
from tideo.models.topa.checkpoint import PrefixLMConfig, load_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.types import Video
from tiny import DIM, save_llm
from tiny_vlms import FAMILIES, SEEN, made
from videos import encode


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_image_text_models(family: str, gpu: str, tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", num=20)
    video = Video(id="a", path=str(tmp_path / "a.mp4"))
    model, processor = made(family)
    settings = GridSettings(image_size=SEEN[family])
    vlm = GridVLM(model, processor=processor, settings=settings, name=family, key="key")
    expected = answers(vlm, video)
    model.to(gpu)
    with all_on(gpu):
        ours = answers(vlm, video)
    assert_same(ours, expected, atol=tolerance(gpu))


@pytest.mark.parametrize(
    "adapter", ["llama-adapter", *(pytest.param(a, marks=pytest.mark.slow) for a in ("lora", "none"))]
)
def test_an_adapter_of_a_language_model(adapter: str, gpu: str, tmp_path: Path) -> None:
    llm, tokenizer = load_llm(str(save_llm(tmp_path / "llm")), loading=Loading(device="cpu"))
    config = PrefixLMConfig(
        llm=str(tmp_path / "llm"), encoder="clip", feature_dim=DIM, adapter=adapter, adapter_len=3,  # type: ignore[arg-type]
        prompt_style="plain",
    )  # fmt: skip
    torch.manual_seed(0)
    PrefixLM(config, llm=llm, tokenizer=tokenizer).save_pretrained(tmp_path / "model")
    plain, ours = (
        PrefixLM.from_pretrained(tmp_path / "model", loading=Loading(device=d)) for d in ("cpu", gpu)
    )
    features = torch.nn.functional.normalize(torch.randn(4, DIM), dim=-1)
    prompt, options = "Video: <video> What is he doing?", ["reading", "pouring tea"]
    with all_on(gpu):
        scores = ours.loglikelihoods(features, prompt=prompt, options=options)
        text = ours.generate(features, prompt=prompt, max_new_tokens=5)
    assert scores.sums == pytest.approx(
        plain.loglikelihoods(features, prompt=prompt, options=options).sums, abs=1e-3
    )
    assert text == plain.generate(features, prompt=prompt, max_new_tokens=5)
