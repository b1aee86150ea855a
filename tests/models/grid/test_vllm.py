"""Image-text models that vLLM runs in this process: what their names and settings may be, and the prompts they get.

vLLM is no part of CI: a stand-in that runs the model of transformers takes its place, but for test_with_vllm.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import InternVLConfig, LlavaConfig

from tideo.llms.load import load_language_model
from tideo.models.grid.chat import ImageChat
from tideo.models.grid.settings import GRID_FILE, GridSettings
from tideo.models.grid.vllm import GridVLLM, check_names
from tideo.models.grid.vllm_chat import VLLMChat
from tideo.models.interface import Controls
from tideo.models.listener import Listener
from tideo.models.load import find_model, load_model
from tideo.models.parts import parts
from tideo.types import Sample, Stopped, UserError, Video
from tiny_vlms import made, saved

FIELDS = ("max_model_len", "gpu_memory_utilization", "tensor_parallel_size", "dtype", "quantization", "model")
QUESTIONS = [
    ("what is the man doing?\nA. washing dishes\nB. reading", ("A", "B")),
    ("why does he pour tea?", ("to wash dishes", "a tea", "to read")),
]


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (28, 28, 3), dtype=np.uint8))


class StandIn:
    """vLLM's `LLM`, as far as it is used, over a tiny LLaVA: image tokens are put in, and log-probabilities given."""

    def __init__(self, model: Any, processor: Any, *, context: int = 1024, first: Sequence[int] = ()) -> None:
        self.model, self.processor, self.first, self.calls = model, processor, first, 0
        self.model_config = SimpleNamespace(max_model_len=context)
        self.llm_engine = SimpleNamespace(has_unfinished_requests=lambda: False)

    def get_default_sampling_params(self) -> Any:
        return SimpleNamespace(repetition_penalty=1.0)

    def generate(self, prompts: Sequence[Any], params: Sequence[Any], *, use_tqdm: bool) -> list[Any]:
        self.calls += 1
        return [self._one(prompt, vars(of)) for prompt, of in zip(prompts, params, strict=True)]

    def _one(self, prompt: Any, params: dict[str, Any]) -> Any:
        images, image = (
            prompt.get("multi_modal_data", {}).get("image", []),
            self.model.config.image_token_index,
        )
        ids = [*self.first, *(n for t in prompt["prompt_token_ids"] for n in [t] * (16 if t == image else 1))]
        if len(ids) >= (most := self.model_config.max_model_len):
            raise ValueError(
                f"The decoder prompt (length {len(ids)}) is longer than the maximum model length of {most}."
            )
        pixels = dict(self.processor.image_processor(images=images, return_tensors="pt")) if images else {}
        start = len(ids)
        with torch.no_grad():
            for _ in range(params["max_tokens"]):
                logits_LV = self.model(input_ids=torch.tensor([ids]), **pixels).logits[0]
                ids.append(int(logits_LV[-1].argmax()))
                if ids[-1] in params.get("stop_token_ids", ()):
                    break
        logprobs_LV = logits_LV.log_softmax(-1)
        of = [
            {ids[i + 1]: SimpleNamespace(logprob=float(logprobs_LV[i, ids[i + 1]]))} for i in range(start - 1)
        ]
        first = {
            n: SimpleNamespace(logprob=float(logprobs_LV[-1, n])) for n in params.get("logprob_token_ids", ())
        }
        ended = ids[-1] in params.get("stop_token_ids", ())
        completion = SimpleNamespace(
            token_ids=ids[start:], logprobs=[first], finish_reason="stop" if ended else "length"
        )
        return SimpleNamespace(
            prompt_token_ids=ids[:start], prompt_logprobs=[None, *of], outputs=[completion]
        )


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package vllm without an engine."""
    module: Any = ModuleType("vllm")
    module.AsyncEngineArgs = make_dataclass("AsyncEngineArgs", FIELDS)
    module.SamplingParams = SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("llava", tmp_path_factory.mktemp("llava"))


def chats(**options: Any) -> tuple[VLLMChat, ImageChat]:
    model, processor = made("llava")
    engine = StandIn(model, processor, **options)
    return VLLMChat(engine, processor=processor, name="vllm:m"), ImageChat(
        model, processor=processor, name="m"
    )


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_likelihoods_and_replies_are_those_of_the_local_path(num_images: int) -> None:
    ours, local = chats()
    asked = [([picture(i) for i in range(num_images)], QUESTIONS), ([picture(7)], QUESTIONS[:1])]
    both = [chain.from_iterable(chat.loglikelihoods(asked)) for chat in (ours, local)]
    for found, expected in zip(*both, strict=True):
        assert found.counts == expected.counts
        assert found.sums == pytest.approx(expected.sums, abs=1e-4)
    heard = [Listener(max_new_tokens=5), Listener(max_new_tokens=5)]
    replies = [
        chat.generate(asked[0][0], turn="why?", listener=of)
        for chat, of in zip((ours, local), heard, strict=True)
    ]
    assert replies[0] == replies[1]
    assert [(of.prompt_tokens, of.reply_tokens, of.truncated) for of in heard[:1]] == [
        (of.prompt_tokens, of.reply_tokens, of.truncated) for of in heard[1:]
    ]


@pytest.mark.usefixtures("package")
def test_all_questions_are_handed_over_at_once_and_options_of_one_token_share_a_request() -> None:
    ours, _ = chats()
    images = [picture()]
    ours.loglikelihoods([(images, QUESTIONS)])  # also checks the tokens of images of this size
    ours.engine.calls = 0
    requests: list[int] = []
    once = ours.engine.generate
    ours.engine.generate = lambda prompts, *rest, **options: (
        requests.append(len(prompts)) or once(prompts, *rest, **options)  # type: ignore[func-returns-value]
    )
    turn, _ = QUESTIONS[0]
    single = [
        text
        for text in ("A", "B", "a", "0", "9")
        if len(ours.template.tokens(ours.template.opening(turn, num_images=1), [text])[1][0]) == 1
    ]
    assert len(single) > 1
    ours.loglikelihoods([(images, [(turn, single), QUESTIONS[1]])] * 2)
    assert requests == [2 * (1 + 3)]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"first": [1]},
            r"vLLM reads \d+ tokens and its processor makes \d+, .* name the model without vllm:",
        ),
        ({"context": 20}, r"length of 20.*max_model_len=20: raise it"),
    ],
)
def test_other_tokens_than_the_processors_and_a_prompt_that_is_too_long(options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        chats(**options)[0].loglikelihoods([([picture()], QUESTIONS)])


@pytest.mark.usefixtures("package")
def test_no_room_for_a_reply() -> None:
    with pytest.raises(UserError, match=r"64 tokens of a reply and room for .*max_model_len=60: raise it"):
        chats(context=60)[0].generate([picture()], turn="why?")


@pytest.mark.usefixtures("package")
def test_an_engine_that_breaks_down_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = made("llava")
    engine = StandIn(model, processor)
    vlm = GridVLLM(engine, processor=processor, settings=GridSettings(image_size=28), name="vllm:m", key="k")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(engine, "generate", broken)
    video = Video(id="v", path="v.mp4")
    sample = Sample(id="q", video=video, question="why?", options=("tea", "a"))
    with pytest.raises(Stopped, match=r"vLLM broke down \(RuntimeError.*set gpu_memory_utilization"):
        vlm.answer(video, [sample], seen=None, controls=Controls(blind=True))


@pytest.mark.usefixtures("package")
def test_more_images_than_the_engine_was_started_for() -> None:
    model, processor = made("llava")
    settings = GridSettings(look="frames", frames=2, image_size=28)
    vlm = GridVLLM(StandIn(model, processor), processor=processor, settings=settings, name="vllm:m", key="k")
    vlm.settings = GridSettings(image_size=28)
    assert vlm.batch_size().now == 64
    with pytest.raises(UserError, match=r"started for 2 images and 0 videos.* show 3 images and 0 videos"):
        vlm.settings = GridSettings(look="frames", frames=3, image_size=28)
    assert vlm.settings == GridSettings(image_size=28)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("load_4bit=true", "load_4bit; set quantization=bitsandbytes"),
        ("load_8bit=true", "load_8bit; set quantization=fp8"),
        ("device=cuda:1", "CUDA_VISIBLE_DEVICES"),
        ("device_map=auto", "tensor_parallel_size=N spreads"),
        ("attn=sdpa", "attention_backend"),
        ("limit_mm_per_prompt=3", "Tideo sets limit_mm_per_prompt itself"),
        ("model=other", "Tideo sets model itself"),
        ("max_modellen=9", "did you mean max_model_len"),
        ("row=3", "did you mean rows"),
        ("xyzzy=3", "unknown key 'xyzzy'; vllm serve --help"),
        ("max_model_len", "expected key=value"),
        ("rows=0", "a grid of 0 x 4"),
        ("batch=0", "batch=0"),
    ],
)
def test_settings_that_vllm_has_not_are_refused(setting: str, message: str, folder: Path) -> None:
    find_model(f"vllm:{folder}", args=["max_model_len=512", "dtype=bf16", "batch=8", "image_size=28"])
    with pytest.raises(UserError, match=message):
        find_model(f"vllm:{folder}", args=[setting])


@pytest.mark.usefixtures("package")
def test_the_doctor_says_who_places_it(folder: Path) -> None:
    assert parts(f"vllm:{folder}", args=["max_model_len=9"]) == ["image-text model, which vLLM places itself"]


@pytest.mark.usefixtures("package")
def test_the_writers_settings_are_checked_too() -> None:
    with pytest.raises(UserError, match=r"--llm-args max_modellen=9: .* did you mean max_model_len"):
        load_language_model("vllm:any", ["max_modellen=9"])


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vllm:", r"expected vllm:MODEL"),
        ("vllm:dollhouse-topa", r"vLLM runs image-text models, which dollhouse-topa is none of"),
        ("vllm:./none", r"there is no folder \./none"),
    ],
)
def test_names_of_no_model(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(name)


@pytest.mark.usefixtures("package")
def test_several_processes_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="each of 2 processes would start vLLM on the same GPU"):
        load_model(f"vllm:{folder}")


@pytest.mark.usefixtures("package")
def test_weights_whose_names_vllm_does_not_read_are_refused_before_it_starts() -> None:
    line = (
        r"has vision_tower\.embeddings\..* vLLM reads vision_tower\.vision_model\..*: name it without vllm:"
    )
    with pytest.raises(UserError, match=line):
        load_model("vllm:dollhouse-grid")


def test_the_names_of_towers_that_transformers_does_not_change_are_read(tmp_path: Path) -> None:
    name = "vision_tower.embeddings.cls_token"
    save_file({name: torch.zeros(1)}, tmp_path / "model.safetensors")
    check_names(tmp_path, config=InternVLConfig(), name="m")
    with pytest.raises(UserError, match=rf"m: model\.safetensors has {name}"):
        check_names(tmp_path, config=LlavaConfig(), name="m")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("look", ["frames", "panels"])
def test_several_images_that_vllm_would_cut_otherwise_are_refused(look: str, tmp_path: Path) -> None:
    folder = saved("llava_onevision", tmp_path)
    (folder / GRID_FILE).unlink()
    with pytest.raises(UserError, match="trained on one tile of each: set look=grid or look=video"):
        load_model(f"vllm:{folder}", args=[f"look={look}"])


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_the_extra_is_named() -> None:
    with pytest.raises(UserError, match=r"pip install 'tideo\[vllm\]'"):
        find_model("vllm:dollhouse-grid")
