"""Conversations as training examples: tokens, labels, packing."""

from __future__ import annotations

import pytest
import torch

from grid_training import (
    SIDE,
    TURNS,
    batch_of,
    conversation,
)
from tideo.models.prompts import IGNORE
from tideo.train.grid.examples import Chat, ChatExamples, check_packing
from tideo.types import UserError
from tiny_vlms import FAMILIES, made


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num", [1, 2])
def test_an_example_is_what_the_processor_makes(family: str, num: int) -> None:
    _, processor = made(family)
    chat = Chat(processor, image_size=SIDE)
    asked = conversation(num=num)
    for turn in TURNS:
        example = chat.encode(asked.pictures, [turn])
        content = [*({"type": "image"} for _ in range(num)), {"type": "text", "text": turn.user}]
        reply = {"role": "assistant", "content": [{"type": "text", "text": turn.reply}]}
        text = processor.apply_chat_template([{"role": "user", "content": content}, reply]).rstrip()
        if family in ("llava", "llava_next"):
            text += "</s>"
        if (
            family == "llava_onevision"
        ):  # its replies are awaited behind other white space than they are written
            text = text.replace("assistant \n", "assistant\n")
        whole = processor(
            images=[asked.pictures.open()], text=text, add_special_tokens=False, return_tensors="pt"
        )
        assert example["input_ids"] == whole["input_ids"][0].tolist()
        scored = [n for n in example["labels"] if n != IGNORE]
        told = processor.tokenizer.decode(scored)
        ends = {"llava": "</s>", "llava_next": "</s>", "idefics3": "<end_of_utterance>"}
        end = ends.get(family, "<end_of_utterance>" if family == "smolvlm" else "<|im_end|>")
        assert told.strip() == turn.reply + end


@pytest.mark.parametrize("family", ["llava", "llava_next", "llava_onevision", "idefics3", "smolvlm"])
def test_packed_questions_have_the_losses_of_separate_ones(family: str) -> None:
    model, processor = made(family)
    asked = [conversation(0), conversation(1)]
    together, apart = batch_of(processor, asked, packed=3), batch_of(processor, asked)
    assert len(together["input_ids"]) == 2
    assert len(apart["input_ids"]) == 6
    assert together["attention_mask"].ndim == 4
    assert apart["attention_mask"].ndim == 2
    with torch.no_grad():
        assert model(**together).loss.item() == pytest.approx(model(**apart).loss.item(), abs=1e-5)


def test_qwen_takes_no_packed_questions() -> None:
    model, _ = made("qwen2_vl")
    check_packing(model.config, 1)
    with pytest.raises(UserError, match=r"packed=3: .* positions of its own.*set packed=1"):
        check_packing(model.config, 3)


def test_every_pass_asks_every_question_once_in_another_order() -> None:
    _, processor = made("llava")
    examples = ChatExamples([conversation(0), conversation(1)], processor=processor, image_size=SIDE, num=12)
    first, second = [[str(examples[i]["labels"]) for i in range(k, k + 6)] for k in (0, 6)]
    assert sorted(first) == sorted(second)
    assert first != second
    assert examples[4]["input_ids"] == examples[4]["input_ids"]
