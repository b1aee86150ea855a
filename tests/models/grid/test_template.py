"""What is scored and generated stands where what was trained stood, with any chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_vlms
from chat_templates import (
    ASKED,
    FAMILIES,
    Family,
    chat_template,
    check_scored_as_trained,
    text_of,
    with_template,
)
from grid_training import SIDE, conversation, picture
from tideo.models.grid.chat import ImageChat
from tideo.models.prompts import IGNORE
from tideo.train.grid.conversations import Turn
from tideo.train.grid.examples import Chat
from tideo.types import UserError
from tiny_vlms import made


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_an_option_is_scored_where_a_reply_is_trained(family: Family) -> None:
    model, processor = with_template(family.template)
    assert text_of(processor) == family.example
    check_scored_as_trained(model, processor)
    ((scores,),) = ImageChat(model, processor=processor, name="m").loglikelihoods(
        [([], [("why?", ["to read"])])]
    )
    learnt = Chat(processor, image_size=SIDE).encode(conversation().pictures, [ASKED])["labels"]
    assert scores.counts == (len(learnt) - learnt.count(IGNORE) - 1,)  # all but the end token


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_reply_is_generated_where_it_is_trained(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = with_template(family.template)
    prompts: list[list[int]] = []
    monkeypatch.setattr(
        model, "generate", lambda input_ids, **_: prompts.append(input_ids[0].tolist()) or input_ids
    )
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
    marker = "<|vision_start|><|image_pad|><|vision_end|>" if "qwen" in family else "<image>"
    template = FAMILIES["qwen 3.5, without the switch"].template.replace("<image>", marker)
    processor.chat_template = template
    check_scored_as_trained(model, processor)


@pytest.mark.slow
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
    model, processor = with_template(
        chat_template(
            begin=begin, user=user, assistant=f"{header}{written}WORDS{end}", waiting=header + asked
        )
    )
    check_scored_as_trained(model, processor, [("why?", ("to read",))])
    text = text_of(processor)
    assert text.count("<s>") == bool(begin)
    assert text.count("</s>") + text.count("<|im_end|>") == 1
    assert text.count("<think>") == text.count("</think>") == ("<think>" in asked + written)


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("named", "ends"), [([2, 5], {2, 5}), (7, {2, 7}), (None, {2})])
def test_every_end_token_ends_a_reply(named: Any, ends: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = with_template(FAMILIES["vicuna"].template)
    monkeypatch.setattr(model.generation_config, "eos_token_id", named)
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
    forced = _forcing(model, [*word, end, *word])
    assert chat.generate([picture(0)], turn="why?", max_new_tokens=len(word) + 3) == "tea"
    forced.remove()


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
    ("changes", "message"),
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
def test_a_template_that_cannot_be_scored_is_refused_in_a_line(changes: dict[str, str], message: str) -> None:
    parts = {"user": "USER: WORDS ", "assistant": "ASSISTANT: WORDS ", "waiting": "ASSISTANT: "} | changes
    model, processor = with_template(chat_template(**parts))
    with pytest.raises(UserError, match=message) as refused:
        ImageChat(model, processor=processor, name="m")
    assert str(refused.value).startswith("model m: ")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=message):
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
