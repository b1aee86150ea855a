"""Chat templates in the manner of published families, for the tiny LLaVA, and whether it scores where it trains."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch

from grid_training import SIDE, conversation, picture
from tideo.models.grid.chat import ImageChat
from tideo.train.grid.conversations import Turn
from tideo.train.grid.examples import Chat, collate_chats
from tiny_vlms import made

_SPOKEN = (
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}"
)
_WORDS = "{% for c in m.content %}{{ c.text }}{% endfor %}"


def chat_template(
    *, begin: str = "", user: str, assistant: str, waiting: str, behind: str = "", before: str = ""
) -> str:
    """`user` and `assistant` are what stands before and behind their words, with WORDS for these."""
    return (
        f"{before}{begin}{{% for m in messages %}}{{% if m.role == 'user' %}}{user.replace('WORDS', _SPOKEN)}"
        f"{{% elif m.role == 'assistant' %}}{assistant.replace('WORDS', _WORDS)}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{waiting}{{% else %}}{behind}{{% endif %}}"
    )


@dataclass(frozen=True, kw_only=True)
class Family:
    """`example` is the right text of a training example of the question "why?" with the reply "to read"."""

    template: str
    example: str


_CLOSED = "<think>\n\n</think>\n\n"
_OFF = "enable_thinking is defined and not enable_thinking"
_CHATML_USER = "<|im_start|>user\nWORDS<|im_end|>\n"
_CHATML_EXAMPLE = "<|im_start|>user\n<image>why?<|im_end|>\n<|im_start|>assistant\n"
FAMILIES = {
    "vicuna": Family(
        template=chat_template(
            begin="{{ bos_token }}", user="USER: WORDS ", assistant="ASSISTANT: WORDS ", waiting="ASSISTANT:"
        ),
        example="<s>USER: <image>why? ASSISTANT: to read</s>",
    ),
    "mistral, without a space": Family(
        template=chat_template(
            begin="{{ bos_token }}", user="[INST]WORDS[/INST]", assistant="WORDS{{ eos_token }}", waiting=""
        ),
        example="<s>[INST]<image>why?[/INST]to read</s>",
    ),
    "gemma": Family(
        template=chat_template(
            begin="{{ bos_token }}",
            user="<start_of_turn>user\nWORDS<end_of_utterance>\n",
            assistant="<start_of_turn>model\n{{ (m.content[0].text) | trim }}<end_of_utterance>\n",
            waiting="<start_of_turn>model\n",
        ),
        example="<s><start_of_turn>user\n<image>why?<end_of_utterance>\n"
        "<start_of_turn>model\nto read<end_of_utterance>",
    ),
    "llama 3, with a system prompt of its own": Family(
        template=chat_template(
            begin="{{ bos_token }}",
            user="[user]\n\nWORDS<end_of_utterance>",
            assistant="[assistant]\n\nWORDS<end_of_utterance>",
            waiting="[assistant]\n\n",
            before="{% set note = 'No <think> here.' %}",
        ).replace("{{ bos_token }}", "{{ bos_token }}[system]\n\n{{ note }}<end_of_utterance>"),
        example="<s>[system]\n\nNo <think> here.<end_of_utterance>"
        "[user]\n\n<image>why?<end_of_utterance>[assistant]\n\nto read<end_of_utterance>",
    ),
    "phi 3, with two end tokens": Family(
        template=chat_template(
            user="<|user|>\nWORDS<|im_end|>\n",
            assistant="<|assistant|>\nWORDS<|im_end|>\n",
            waiting="<|assistant|>\n",
            behind="{{ eos_token }}",
        ),
        example="<|user|>\n<image>why?<|im_end|>\n<|assistant|>\nto read<|im_end|>",
    ),
    "qwen 3, with a switch": Family(
        template=chat_template(
            user=_CHATML_USER,
            assistant=f"<|im_start|>assistant\n{{% if loop.last %}}{_CLOSED}{{% endif %}}WORDS<|im_end|>\n",
            waiting=f"<|im_start|>assistant\n{{% if {_OFF} %}}{_CLOSED}{{% endif %}}",
        ),
        example=_CHATML_EXAMPLE + "<think>\n\n</think>\n\nto read<|im_end|>",
    ),
    "qwen 3, without the switch": Family(
        template=chat_template(
            user=_CHATML_USER,
            assistant="<|im_start|>assistant\n<think>\n\n</think>\n\nWORDS<|im_end|>\n",
            waiting="<|im_start|>assistant\n",
        ),
        example=_CHATML_EXAMPLE + "<think>\n\n</think>\n\nto read<|im_end|>",
    ),
    "qwen 3.5, without the switch": Family(
        template=chat_template(
            user=_CHATML_USER,
            assistant="<|im_start|>assistant\n<think>\n\n</think>\n\nWORDS<|im_end|>\n",
            waiting="<|im_start|>assistant\n<think>\n",
        ),
        example=_CHATML_EXAMPLE + "<think>\n\n</think>\n\nto read<|im_end|>",
    ),
    "smollm 3, thinking by default": Family(
        template=chat_template(
            user=_CHATML_USER,
            assistant="<|im_start|>assistant\n{% if mode != '/think' %}<think>\n\n</think>\n{% endif %}"
            "WORDS<|im_end|>\n",
            waiting="<|im_start|>assistant\n{% if mode != '/think' %}<think>\n\n</think>\n{% endif %}",
            before="{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
            "{% set mode = '/think' if enable_thinking else '/no_think' %}"
            "<|im_start|>system\n{{ mode }}<|im_end|>\n",
        ),
        example="<|im_start|>system\n/no_think<|im_end|>\n"
        + _CHATML_EXAMPLE
        + "<think>\n\n</think>\nto read<|im_end|>",
    ),
    "deepseek r1, which asks for a thought and strips it": Family(
        template=chat_template(
            begin="{{ bos_token }}",
            user="<|User|>WORDS",
            assistant="<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}",
            waiting="<|Assistant|><think>\n",
        ),
        example="<s><|User|><image>why?<|Assistant|><think>\n\n</think>\n\nto read</s>",
    ),
    "kimi, whose thought is one line": Family(
        template=chat_template(
            user="<|user|>WORDS<|im_end|>",
            assistant="<|assistant|>WORDS<|im_end|>",
            waiting="<|assistant|><think>{% if thinking is defined and thinking is false %}</think>{% endif %}",
        ),
        example="<|user|><image>why?<|im_end|><|assistant|><think></think>to read<|im_end|>",
    ),
    "gemma 4, with a thought of its own kind": Family(
        template=chat_template(
            user="<|turn>user\nWORDS<|im_end|>\n",
            assistant="<|turn>model\nWORDS<|im_end|>\n",
            waiting="<|turn>model\n{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}",
        ),
        example="<|turn>user\n<image>why?<|im_end|>\n<|turn>model\n<|channel>thought\n<channel|>to read<|im_end|>",
    ),
    "a thought that is asked for and written differently": Family(
        template=chat_template(
            user=_CHATML_USER,
            assistant="<|im_start|>assistant\n<think></think>\nWORDS<|im_end|>\n",
            waiting="<|im_start|>assistant\n<think>\n",
        ),
        example=_CHATML_EXAMPLE + "<think></think>\nto read<|im_end|>",
    ),
    "gpt-oss, with a channel": Family(
        template=chat_template(
            user="<|user|>WORDS<|im_end|>",
            assistant="<|assistant|><|channel|>final<|message|>WORDS<|im_end|>",
            waiting="<|assistant|>",
        ),
        example="<|user|><image>why?<|im_end|><|assistant|><|channel|>final<|message|>to read<|im_end|>",
    ),
    "glm 4, which closes no reply": Family(
        template=chat_template(
            user="<|user|>\nWORDS", assistant="<|assistant|>\nWORDS", waiting="<|assistant|>\n"
        ),
        example="<|user|>\n<image>why?<|assistant|>\nto read</s>",
    ),
    "words of the assistant as a string": Family(
        template=chat_template(
            user="USER: WORDS ", assistant="ASSISTANT: {{ m.content }}{{ eos_token }}", waiting="ASSISTANT:"
        ),
        example="USER: <image>why? ASSISTANT: to read</s>",
    ),
    "a reply closed in words": Family(
        template=chat_template(
            user="### Human: WORDS ", assistant="### Assistant: WORDS\n###", waiting="### Assistant: "
        ),
        example="### Human: <image>why? ### Assistant: to read</s>",
    ),
}


ASKED = Turn(user="why?", reply="to read")
QUESTIONS = [("why?", ("to read", "washing dishes")), ("what does he pour?", ("tea.",))]


@cache
def _tiny() -> tuple[Any, Any]:
    return made("llava")


def with_template(template: str) -> tuple[Any, Any]:
    """The tiny LLaVA, which tests share, and a processor of its own with this template."""
    model, shared = _tiny()
    processor = copy(shared)
    processor.tokenizer, processor.chat_template = deepcopy(shared.tokenizer), template
    return model, processor


def text_of(processor: Any, turn: Turn = ASKED) -> str:
    """The text of a training example, each image as one marker."""
    ids = Chat(processor, image_size=SIDE).encode(conversation().pictures, [turn])["input_ids"]
    text = str(processor.tokenizer.decode(ids))
    return text.replace("<image>" * text.count("<image>"), "<image>")


def trained(model: Any, chat: Chat, turn: Turn) -> list[float]:
    """The log-likelihood of each token of a training example behind the first, up to the last of the reply."""
    asked = conversation()
    example = chat.encode(asked.pictures, [turn])
    batch = collate_chats([example | chat.pixels(asked.pictures)], pad_id=0)
    with torch.no_grad():
        logprobs_LV = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0].log_softmax(-1)
    ids = example["input_ids"][: -len(chat.template.end_ids)]
    return [logprobs_LV[i - 1, ids[i]].item() for i in range(1, len(ids))]


def check_scored_as_trained(model: Any, processor: Any, questions: Sequence[Any] = QUESTIONS) -> None:
    chat = Chat(processor, image_size=SIDE)
    (scored,) = ImageChat(model, processor=processor, name="m").loglikelihoods([([picture(0)], questions)])
    for (user, options), scores in zip(questions, scored, strict=True):
        for option, total, count in zip(options, *scores, strict=True):
            logprobs = trained(model, chat, Turn(user=user, reply=option))
            assert total == pytest.approx(sum(logprobs[-count:]), abs=1e-3)
