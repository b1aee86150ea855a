"""What is scored and generated stands where what was trained stood, with any chat template and tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import tiny_vlms
from chat_templates import FAMILIES, Family, chat_template
from grid_training import SIDE, conversation, picture
from tideo.models.grid.chat import ImageChat
from tideo.models.prompts import IGNORE
from tideo.train.grid.conversations import Turn
from tideo.train.grid.examples import Chat, collate_chats
from tideo.types import UserError
from tiny_vlms import made

ASKED = Turn(user="why?", reply="to read")
QUESTIONS = [("why?", ("to read", "washing dishes")), ("what does he pour?", ("A", "tea."))]


def with_template(template: str) -> tuple[Any, Any]:
    model, processor = made("llava")
    processor.tokenizer = deepcopy(processor.tokenizer)
    processor.chat_template = template
    return model, processor


def text_of(processor: Any, turn: Turn = ASKED) -> str:
    """The text of a training example, each image as one marker."""
    ids = Chat(processor, image_size=SIDE).encode(conversation().pictures, [turn])["input_ids"]
    text = str(processor.tokenizer.decode(ids))
    return text.replace("<image>" * text.count("<image>"), "<image>")


def trained(model: Any, processor: Any, turn: Turn) -> list[float]:
    """The log-likelihood of each token of a training example behind the first, up to the last of the reply."""
    chat, asked = Chat(processor, image_size=SIDE), conversation()
    example = chat.encode(asked.pictures, [turn])
    batch = collate_chats([example | chat.pixels(asked.pictures)], pad_id=0)
    with torch.no_grad():
        logprobs_LV = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0].log_softmax(-1)
    ids = example["input_ids"][: -len(chat.template.end_ids)]
    return [logprobs_LV[i - 1, ids[i]].item() for i in range(1, len(ids))]


def check_scored_as_trained(model: Any, processor: Any, questions: Sequence[Any] = QUESTIONS) -> None:
    scored = ImageChat(model, processor=processor, name="m").loglikelihoods([picture(0)], questions=questions)
    for (user, options), scores in zip(questions, scored, strict=True):
        for option, total, count in zip(options, *scores, strict=True):
            logprobs = trained(model, processor, Turn(user=user, reply=option))
            assert total == pytest.approx(sum(logprobs[-count:]), abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_an_option_is_scored_where_a_reply_is_trained(family: Family) -> None:
    model, processor = with_template(family.template)
    assert text_of(processor) == family.example
    check_scored_as_trained(model, processor)
    (scores,) = ImageChat(model, processor=processor, name="m").loglikelihoods(
        [], questions=[("why?", ["to read"])]
    )
    learnt = Chat(processor, image_size=SIDE).encode(conversation().pictures, [ASKED])["labels"]
    assert scores.counts == (len(learnt) - learnt.count(IGNORE) - 1,)  # all but the end token


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_reply_is_generated_where_it_is_trained(family: Family) -> None:
    model, processor = with_template(family.template)
    prompts = []
    model.generate = lambda input_ids, **_: prompts.append(input_ids[0].tolist()) or input_ids
    ImageChat(model, processor=processor, name="m").generate([picture(0)], turn="why?")
    example = Chat(processor, image_size=SIDE).encode(conversation().pictures, [ASKED])
    assert prompts == [example["input_ids"][: example["labels"].count(IGNORE)]]


def test_only_the_words_of_the_reply_and_its_end_are_learnt() -> None:
    _, processor = with_template(FAMILIES["qwen 3, with a switch"].template)
    turns = [ASKED, Turn(user="what is it?", reply="tea")]
    example = Chat(processor, image_size=SIDE).encode(conversation().pictures, turns)
    learnt = [n for n in example["labels"] if n != IGNORE]
    assert processor.tokenizer.decode(learnt) == "to read<|im_end|>tea<|im_end|>"
    assert processor.tokenizer.decode(example["input_ids"]).count("<think>\n\n</think>\n\n") == 2


@pytest.mark.parametrize("family", tiny_vlms.FAMILIES)
def test_an_empty_thought_in_every_architecture(family: str) -> None:
    model, processor = made(family)
    marker = "<|vision_start|><|image_pad|><|vision_end|>" if family == "qwen2_vl" else "<image>"
    template = FAMILIES["qwen 3.5, without the switch"].template.replace("<image>", marker)
    processor.chat_template = template
    check_scored_as_trained(model, processor)


@settings(max_examples=25, deadline=None)
@given(
    begin=st.sampled_from(["", "{{ bos_token }}"]),
    header=st.sampled_from(["ASSISTANT:", "<|im_start|>assistant\n", "### A: ", ""]),
    asked=st.sampled_from(["", " ", "<think>\n", "<think>", "<think></think>", "<think>\n\n</think>\n\n"]),
    written=st.sampled_from(["", " ", "<think>\n\n</think>\n\n", "<think></think>"]),
    end=st.sampled_from(["", " ", "\n", "<|im_end|>\n", "{{ eos_token }}", " {{ eos_token }}", "\n###", "."]),
    user=st.sampled_from(["USER: WORDS\n\n", "WORDS "]),
)
def test_any_template_scores_as_trained(
    begin: str, header: str, asked: str, written: str, end: str, user: str
) -> None:
    model, processor = _shared()
    processor.chat_template = chat_template(
        begin=begin, user=user, assistant=f"{header}{written}WORDS{end}", waiting=header + asked
    )
    check_scored_as_trained(model, processor, [("why?", ("to read",))])
    text = text_of(processor)
    assert text.count("<s>") == bool(begin)
    assert text.count("</s>") + text.count("<|im_end|>") == 1
    assert text.count("<think>") == text.count("</think>") == ("<think>" in asked + written)


@cache
def _shared() -> tuple[Any, Any]:
    return made("llava")


# --- tokenizers -----------------------------------------------------------------------------------


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


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("named", "ends"), [([2, 5], {2, 5}), (7, {2, 7}), (None, {2})])
def test_every_end_token_ends_a_reply(named: Any, ends: set[int]) -> None:
    model, processor = with_template(FAMILIES["vicuna"].template)
    model.generation_config.eos_token_id = named
    chat = ImageChat(model, processor=processor, name="m")
    free = chat.generate([picture(0)], turn="what happens?", max_new_tokens=12)
    assert free
    words = processor.tokenizer(free, add_special_tokens=False).input_ids
    for end in ends:
        forced = _forcing(model, [words[0], end, words[0]])
        assert (
            chat.generate([picture(0)], turn="why?", max_new_tokens=3)
            == processor.tokenizer.decode([words[0]]).strip()
        )
        forced.remove()
    assert model.generation_config.eos_token_id == named


def test_the_end_of_a_trained_reply_ends_one() -> None:
    model, processor = with_template(FAMILIES["qwen 3, with a switch"].template)
    chat = ImageChat(model, processor=processor, name="m")
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    word = processor.tokenizer("tea", add_special_tokens=False).input_ids
    _forcing(model, [*word, end, *word])
    assert chat.generate([picture(0)], turn="why?", max_new_tokens=len(word) + 3) == "tea"


def _forcing(model: Any, ids: Sequence[int]) -> Any:
    """Make the model say these tokens one after another."""
    rest = list(ids)

    def force(module: Any, inputs: Any, output: Any) -> Any:
        output[:, -1] = 0.0
        output[:, -1, rest.pop(0)] = 100.0
        return output

    return model.lm_head.register_forward_hook(force)


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"waiting": "Reply: "},
            r"asks for a reply after 'Reply: ', but writes one after 'ASSISTANT: ': expected the same text",
        ),
        ({"before": "{{ raise_exception('a system message is needed') }}"}, r"\(a system message is needed\)"),
        ({"user": "{{ 'USER: ' + m.content }}"}, "does not take a question with an image and a reply"),
        ({"user": "{{ m.content }} "}, "processor does not take its chat template's text .* 0 <image> tokens"),
        ({"assistant": "ASSISTANT: "}, "leaves out what the assistant says"),
        ({"user": "USER: <image>"}, "leaves out what the user says"),
        ({"assistant": "ASSISTANT: {{ m.content[0].text[:10] }} "}, "changes the reply .* to 'washing di "),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_scored_is_refused_in_a_line(changes: dict[str, str], told: str) -> None:
    parts = {"user": "USER: WORDS ", "assistant": "ASSISTANT: WORDS ", "waiting": "ASSISTANT: "} | changes
    model, processor = with_template(chat_template(**parts))
    with pytest.raises(UserError, match=told) as refused:
        ImageChat(model, processor=processor, name="m")
    assert str(refused.value).startswith("model m: ")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=told):
        Chat(processor, image_size=SIDE)


def test_a_processor_that_adds_to_the_text_is_refused() -> None:
    """As PaliGemma's does, which puts a line break behind every prompt."""
    model, processor = with_template(FAMILIES["vicuna"].template)

    class Adding(type(processor)):  # type: ignore[misc]
        def __call__(self, *, text: str, **inputs: Any) -> Any:
            return super().__call__(text=text + "\n", **inputs)

    processor.__class__ = Adding
    with pytest.raises(
        UserError, match=r"training would read ' washing dishes\\n' where scoring reads '\\n washing"
    ):
        ImageChat(model, processor=processor, name="m")


def test_a_reply_that_nothing_ends_is_refused() -> None:
    _, processor = with_template(FAMILIES["glm 4, which closes no reply"].template)
    processor.tokenizer.eos_token = None
    with pytest.raises(UserError, match="neither its chat template nor its tokenizer ends a reply"):
        Chat(processor, image_size=SIDE)


def test_a_thought_is_not_trained_where_none_is_scored() -> None:
    _, processor = with_template(FAMILIES["qwen 3, with a switch"].template)
    with pytest.raises(
        UserError, match="has a thought, but this model's options are scored after an empty one"
    ):
        text_of(processor, Turn(user="why?", reply="<think>tea</think>to read"))
