"""vLLM itself beside transformers on the same tiny models. tests/llms/test_vllm.py says how to have it on a CPU.

Some of the families need torchvision and num2words too.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tideo.models.grid.settings import GridSettings
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import Asked, Controls
from tideo.models.load import load_model
from tideo.types import Frames, Sample, UserError, Video
from tiny_vlms import SEEN, made

OF_CPU = ["max_model_len=1024", "enforce_eager=true"]
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")


def for_vllm(family: str, folder: Path) -> Path:
    """Heads of 32, the least that vLLM's attention takes on a CPU, and CLIP's weights by the names it reads."""
    model, processor = made(family)
    config = copy.deepcopy(model.config)
    text = config.text_config
    text.num_attention_heads = text.num_key_value_heads = 1
    text.head_dim = 32
    if "mrope_section" in (text.rope_parameters or {}):
        text.rope_parameters["mrope_section"] = [4, 6, 6]
    torch.manual_seed(0)
    model = type(model)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    GridSettings(image_size=SEEN[family]).save(folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {
        n.replace("vision_tower.embeddings", "vision_tower.vision_model.embeddings")
        .replace("vision_tower.encoder", "vision_tower.vision_model.encoder")
        .replace("vision_tower.p", "vision_tower.vision_model.p"): w
        for n, w in weights.items()
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


LOOKS = {
    "grid": ["look=grid", "rows=2", "cols=2"],
    "panels": ["look=panels", "panels=2", "rows=1", "cols=2"],
    "frames": ["look=frames", "frames=4"],
    "video": ["look=video", "frames=4"],
}


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "look"),
    [
        ("llava", "grid"), ("llava", "frames"), ("smolvlm", "panels"), ("qwen2_5_vl", "frames"),
        ("qwen2_5_vl", "video"), ("qwen3_vl", "video"),
    ],
)  # fmt: skip
def test_vllm_answers_as_transformers(family: str, look: str, tmp_path: Path) -> None:
    folder = for_vllm(family, tmp_path)
    local = load_model(str(folder), args=LOOKS[look])
    ours = load_model(f"vllm:{folder}", args=[*LOOKS[look], *OF_CPU])
    assert isinstance(local, GridVLM)
    rgb_THWC = np.random.default_rng(0).integers(0, 255, (4, 28, 56, 3), dtype=np.uint8)
    # Qwen2.5-VL's text follows its video at other positions where a video lasts longer than it is wide (docs).
    frames = Frames(rgb_THWC=rgb_THWC, pts_s_T=1 + 0.25 * np.arange(4.0), video_id="v")
    video = Video(id="v", path="v.mp4")
    samples = [
        Sample(id="letters", video=video, question="what is the man doing?", options=("washing", "reading")),
        Sample(id="words", video=video, question="what happens?"),
    ]
    for form in ("letter", "text"):
        for controls, seen in (({}, frames), ({"blind": True}, None)):
            asked = [Asked(video=video, samples=samples, seen=seen, controls=Controls(form=form, **controls))]
            (expected,), (found,) = (model.answer_many(asked, at_once=1) for model in (local, ours))
            assert [a.error for a in found] == [None, None]
            assert found[0].loglikelihoods == pytest.approx(expected[0].loglikelihoods, abs=1e-4)
            assert (found[0].num_tokens, found[1].text) == (expected[0].num_tokens, expected[1].text)


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "args", "message"),
    [
        ("llava", ["max_model_len=100000"], r"vLLM does not start \(.*max_model_len"),
        ("llava", ["tensor_parallel_size=0"], r"vLLM does not start"),
        ("smolvlm", ["quantization=none_such"], r"vLLM does not start"),
    ],
)
def test_what_vllm_cannot_start_is_one_line(
    family: str, args: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_model(f"vllm:{for_vllm(family, tmp_path)}", args=args)
    assert "\n" not in str(raised.value)
