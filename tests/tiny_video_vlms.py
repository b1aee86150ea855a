"""Tiny random models of the families whose processors also take videos, which needs torchvision (and num2words).

Their processors, image processors and chat templates are as published; only the sizes are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import (
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLImageProcessorPil,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from tiny_vlms import SPECIAL, TEXT_CONFIG, token, tokenizer

_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
# Qwen2.5-VL: a system prompt of its own, content as a string or in parts.
QWEN_2_5 = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}<|im_end|>\n{% else %}{% for c in m['content'] %}"
    f"{{% if c['type'] == 'image' or 'image' in c %}}{_IMAGE}"
    f"{{% elif c['type'] == 'video' or 'video' in c %}}{_VIDEO}{{% elif 'text' in c %}}{{{{ c['text'] }}}}{{% endif %}}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Qwen3-VL-Instruct: no system prompt, and no thought.
QWEN_3 = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}{%- if m.content is string %}{{- m.content }}"
    f"{{%- else %}}{{%- for c in m.content %}}{{%- if c.type == 'image' or 'image' in c %}}{_IMAGE}"
    f"{{%- elif c.type == 'video' or 'video' in c %}}{_VIDEO}"
    "{%- elif 'text' in c %}{{- c.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
# Qwen3-VL-Thinking: a reply is asked for inside a thought, and the last one is written behind a thought.
QWEN_3_THINKING = (
    "{%- macro words(content) %}{%- if content is string %}{{- content }}{%- else %}{%- for c in content %}"
    f"{{%- if c.type == 'image' or 'image' in c %}}{_IMAGE}{{%- elif 'text' in c %}}{{{{- c.text }}}}{{%- endif %}}"
    "{%- endfor %}{%- endif %}{%- endmacro %}"
    "{%- for m in messages %}{%- set content = words(m.content) %}{%- if m.role == 'assistant' %}"
    "{%- set thought = '' %}{%- if '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if loop.last %}{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{%- else %}{{- content }}{%- endif %}{{- '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
)
# SmolVLM: a colon stands directly before an image, and with a space before words.
SMOL = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == 'image' %}{{ '<image>' }}"
    "{% elif c['type'] == 'video' %}{{ '<video>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# LLaVA-OneVision: images and videos before all words, and another white space before a reply than where one is awaited.
ONEVISION = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' }}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{% if m['role'] != 'assistant' %}"
    "{{ '\n' + c['text'] }}{% else %}{% generation %}{{ '\n' + c['text'] }}{% endgeneration %}{% endif %}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PATCHES = {"patch_size": 7, "size": {"shortest_edge": 14 * 14, "longest_edge": 56 * 56}}
_QWEN_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def _tokenizer(**special: str | None) -> PreTrainedTokenizerFast:
    """The shared vocabulary with these bos, eos and pad tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer()._tokenizer, additional_special_tokens=SPECIAL, **special
    )


def _qwen_text(mrope_section: list[int], **rope: object) -> dict[str, Any]:
    parameters = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": mrope_section, **rope}
    ends = {"bos_token_id": None, "eos_token_id": token("<|im_end|>"), "pad_token_id": token("<pad>")}
    return {**TEXT_CONFIG, **ends, "vocab_size": len(tokenizer()), "rope_parameters": parameters}


def _qwen_ids() -> dict[str, int]:
    return {name: token(text) for name, text in _QWEN_TOKENS.items()}


def qwen2_5_vl() -> tuple[Any, Any]:
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32, "depth": 2, "num_heads": 2,
                "patch_size": 7, "window_size": 28, "fullatt_block_indexes": [1],
            },
            text_config=_qwen_text([2, 3, 3]),
            **_qwen_ids(),
        )
    )  # fmt: skip
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessorPil(**_PATCHES),
        _tokenizer(eos_token="<|im_end|>", pad_token="<pad>"),
        Qwen2VLVideoProcessor(**_PATCHES),
        chat_template=QWEN_2_5,
    )
    return model, processor


def qwen3_vl() -> tuple[Any, Any]:
    model = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32, "depth": 2, "num_heads": 2,
                "patch_size": 7, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
            },
            text_config=_qwen_text([4, 2, 2], mrope_interleaved=True) | {"head_dim": 16},
            **_qwen_ids(),
        )
    )  # fmt: skip
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessorPil(**_PATCHES),
        _tokenizer(eos_token="<|im_end|>", pad_token="<pad>"),
        Qwen3VLVideoProcessor(**_PATCHES),
        chat_template=QWEN_3,
    )
    return model, processor


def smolvlm() -> tuple[Any, Any]:
    ends = {"bos_token_id": token("<|im_start|>"), "eos_token_id": token("<end_of_utterance>")}
    model = SmolVLMForConditionalGeneration(
        SmolVLMConfig(
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 28, "patch_size": 7,
            },
            text_config=LlamaConfig(**{**TEXT_CONFIG, **ends}, vocab_size=len(tokenizer())),
            image_token_id=token("<image>"),
            scale_factor=2,
            pad_token_id=token("<pad>"),
        )
    )  # fmt: skip
    sizes = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessorPil(**sizes),
        _tokenizer(bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>"),
        SmolVLMVideoProcessor(**sizes, video_sampling={"fps": 1, "max_frames": 4}),
        image_seq_len=4,
        chat_template=SMOL,
    )
    return model, processor


def llava_onevision() -> tuple[Any, Any]:
    places = [[28, 28], [28, 56], [56, 28], [56, 56]]
    ends = {"bos_token_id": None, "eos_token_id": token("<|im_end|>")}
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(
                hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28,
                patch_size=7, vision_use_head=False,
            ),
            text_config=Qwen2Config(**{**TEXT_CONFIG, **ends}, vocab_size=len(tokenizer())),
            image_token_index=token("<image>"),
            video_token_index=token("<video>"),
            image_grid_pinpoints=places,
        )
    )  # fmt: skip
    size = {"height": 28, "width": 28}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=places),
        _tokenizer(eos_token="<|im_end|>", pad_token="<pad>"),
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=ONEVISION,
    )
    return model, processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava_onevision": llava_onevision, "qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl, "smolvlm": smolvlm,
}  # fmt: skip
