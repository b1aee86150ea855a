"""A chat's tokens, with any tokenizer: begun once, ended once, nothing of the tokenizer's own before the reply."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import tiny_vlms
from chat_templates import ASKED, FAMILIES, chat_template, check_scored_as_trained, text_of, with_template
from grid_training import SIDE, conversation
from tideo.train.grid.conversations import Turn
from tideo.train.grid.examples import Chat, collate_chats


def adding(processor: Any, pattern: str) -> Any:
    special = [("<s>", 1), ("</s>", 2)]
    processor.tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=pattern, special_tokens=[s for s in special if s[0] in pattern]
    )
    return processor


@pytest.mark.parametrize("begin", ["", "{{ bos_token }}"])
@pytest.mark.parametrize("pattern", ["$A", "<s> $A", "$A </s>", "<s> $A </s>"])
def test_a_chat_begins_once_and_ends_once(begin: str, pattern: str) -> None:
    model, processor = with_template(
        chat_template(begin=begin, user="USER: WORDS ", assistant="ASSISTANT: WORDS ", waiting="ASSISTANT:")
    )
    adding(processor, pattern)
    first = "<s>" if begin or pattern.startswith("<s>") else ""
    assert text_of(processor) == f"{first}USER: <image>why? ASSISTANT: to read</s>"
    check_scored_as_trained(model, processor)


@pytest.mark.parametrize("family", ["vicuna", "mistral, without a space", "qwen 3.5, without the switch"])
@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_tokenizer_that_puts_a_space_before_words(scheme: str, family: str) -> None:
    """As SentencePiece does: before the first word, or after every special token too."""
    model, processor = with_template(FAMILIES[family].template)
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)  # type: ignore[arg-type]
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme)  # type: ignore[arg-type]
    letters = sorted(set("".join(tiny_vlms.TEXT)) | set("[]INST<>/think_\n?|"))
    inner.train_from_iterator(
        [*tiny_vlms.TEXT, *letters],
        trainers.BpeTrainer(vocab_size=490, special_tokens=tiny_vlms.SPECIAL, initial_alphabet=letters),
    )
    processor.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=tiny_vlms.SPECIAL[3:],
    )  # fmt: skip
    check_scored_as_trained(model, adding(processor, "<s> $A"))


def test_a_tokenizer_without_a_begin_token() -> None:
    model, processor = with_template(FAMILIES["gpt-oss, with a channel"].template)
    processor.tokenizer.bos_token = None
    assert text_of(processor) == FAMILIES["gpt-oss, with a channel"].example
    check_scored_as_trained(model, processor)


def test_the_end_is_learnt_where_it_is_also_the_padding() -> None:
    _, processor = with_template(FAMILIES["vicuna"].template)
    processor.tokenizer.pad_token = "</s>"
    chat, asked = Chat(processor, image_size=SIDE), conversation()
    turns = [ASKED, Turn(user="what is the man doing there?", reply="washing dishes")]
    batch = collate_chats(
        [chat.encode(asked.pictures, [t]) | chat.pixels(asked.pictures) for t in turns], pad_id=2
    )
    assert (batch["labels"] == 2).sum(1).tolist() == [1, 1]
    assert (batch["attention_mask"] * (batch["input_ids"] == 2)).sum(1).tolist() == [1, 1]


def test_a_tokenizer_that_truncates_cuts_no_prompt() -> None:
    model, processor = with_template(FAMILIES["vicuna"].template)
    processor.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=processor.tokenizer._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=tiny_vlms.SPECIAL[3:], model_max_length=40, truncation=True, max_length=40,
        padding="max_length", padding_side="left",
    )  # fmt: skip
    long = Turn(user="why does he do it? " * 20, reply="to read")
    assert text_of(processor, long) == f"<s>USER: <image>{long.user} ASSISTANT: to read</s>"
    check_scored_as_trained(model, processor, [(long.user, ("to read", "tea"))])
