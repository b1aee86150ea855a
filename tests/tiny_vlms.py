"""Tiny random image-text models of several families, with real processors, as folders that load like the real ones."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from tideo.models.grid.settings import GridSettings

# As the published templates do it: llava-hf's closes no reply, the others do.
VICUNA = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS = (
    "<s>{% for m in messages %}{{ m['role'].capitalize() }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ ' ' + c['text'] if m['role'] == 'assistant' else c['text'] }}"
    "{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
TEXT = [
    "USER: what is the man doing after pouring tea? A. washing dishes B. reading a book\nASSISTANT: A",
    "The image shows 16 frames of one video in reading order, 4 rows of 4. Answer with the option's letter",
]
SPECIAL = [
    "<pad>", "<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
    *(f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)), "<video>",
]  # fmt: skip
TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
VISION = CLIPVisionConfig(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=28,
    patch_size=7,
)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=SPECIAL[3:],
    )  # fmt: skip


def token(text: str) -> int:
    return int(tokenizer().convert_tokens_to_ids(text))


def llava() -> tuple[Any, Any]:
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=VISION,
            text_config=LlamaConfig(vocab_size=len(tokenizer()), **TEXT_CONFIG),
            image_token_index=token("<image>"),
            vision_feature_layer=-2,
        )
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer(),
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    return model, processor


def llava_next() -> tuple[Any, Any]:
    places = [[28, 56], [56, 28], [56, 56]]
    model = LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            vision_config=VISION,
            text_config=LlamaConfig(vocab_size=len(tokenizer()), **TEXT_CONFIG),
            image_token_index=token("<image>"),
            image_grid_pinpoints=places,
            vision_feature_layer=-2,
        )
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": 28},
            crop_size={"height": 28, "width": 28},
            image_grid_pinpoints=places,
        ),
        tokenizer(),
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    return model, processor


def idefics3(
    config: Any = Idefics3Config, model_of: Any = Idefics3ForConditionalGeneration
) -> tuple[Any, Any]:
    """Also SmolVLM, whose parts are the same."""
    model = model_of(
        config(
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 28, "patch_size": 7,
            },
            text_config=LlamaConfig(vocab_size=len(tokenizer()), **TEXT_CONFIG),
            image_token_id=token("<image>"),
            scale_factor=2,
            pad_token_id=0,
        )
    )  # fmt: skip
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}),
        tokenizer(),
        image_seq_len=4,
        chat_template=IDEFICS,
    )
    return model, processor


class _WithoutVideo(Qwen2VLProcessor):
    """Its video processor, which we do not use, needs torchvision."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = token(self.image_token), token(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def qwen2_vl() -> tuple[Any, Any]:
    model = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            vision_config={
                "embed_dim": 16,
                "hidden_size": 32,
                "depth": 2,
                "num_heads": 2,
                "mlp_ratio": 2,
                "patch_size": 7,
                "in_channels": 3,
            },
            text_config=dict(
                vocab_size=len(tokenizer()),
                rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
                **TEXT_CONFIG,
            ),
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
            vision_start_token_id=token("<|vision_start|>"),
            vision_end_token_id=token("<|vision_end|>"),
        )
    )
    processor = _WithoutVideo(
        Qwen2VLImageProcessorPil(patch_size=7, size={"shortest_edge": 14 * 14, "longest_edge": 56 * 56}),
        tokenizer(),
        chat_template=CHATML,
    )
    return model, processor


def qwen2_5_vl() -> tuple[Any, Any]:
    text = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            vision_config={
                "hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 24, "depth": 2, "num_heads": 2,
                "patch_size": 7, "in_channels": 3, "window_size": 28, "fullatt_block_indexes": [1],
            },
            text_config=dict(vocab_size=len(tokenizer()), rope_parameters=text, **TEXT_CONFIG),
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
            vision_start_token_id=token("<|vision_start|>"),
            vision_end_token_id=token("<|vision_end|>"),
        )
    )  # fmt: skip
    return model, qwen2_vl()[1]


_BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava, "llava_next": llava_next, "idefics3": idefics3, "qwen2_vl": qwen2_vl,
}  # fmt: skip
_WITH_VIDEO = (
    "llava_onevision",
    "qwen2_5_vl",
    "qwen3_vl",
    "smolvlm",
)  # tiny_video_vlms.py; their tests are skipped without the extra
FAMILIES = (*_BUILDERS, *_WITH_VIDEO)
SEEN = {
    family: 28 if family == "llava" else 56 for family in FAMILIES
}  # the largest side that each sees as it is
# The classes of these with the processors of others, which need no more packages.
RELATED: dict[str, Callable[[], tuple[Any, Any]]] = {
    "smolvlm classes": lambda: idefics3(SmolVLMConfig, SmolVLMForConditionalGeneration),
    "qwen2_5_vl classes": qwen2_5_vl,
}  # fmt: skip


def made(family: str, *, seed: int = 0) -> tuple[Any, Any]:
    """A random model in eval mode, weights large enough for scores to differ, and its processor."""
    builders = _BUILDERS
    if family in _WITH_VIDEO:
        for module in ("torchvision", "num2words"):
            pytest.importorskip(module, reason=f"its processor needs {module}: pip install 'tideo[vlm]'")
        from tiny_video_vlms import BUILDERS as builders
    torch.manual_seed(seed)
    model, processor = (builders | RELATED)[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), processor


def saved(family: str, directory: Path) -> Path:
    model, processor = made(family)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    GridSettings(image_size=SEEN[family]).save(directory)
    return directory
