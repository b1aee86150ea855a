"""A prompt's tokens, with any tokenizer: begun once, ended once, nothing of its own between prompt and option."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from tideo.models.prompts import begin_ids, encode, end_ids
from tideo.models.topa.checkpoint import PrefixLMConfig, load_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.textvid.reader import Reader
from tideo.types import Question, UserError
from tiny import byte_tokenizer, save_llm

PATTERNS = {
    "$A": [], "<s> $A": [1], "$A </s>": [], "<s> $A </s>": [1], "<pad> <s> $A </s>": [0, 1],
}  # fmt: skip
QUESTION = Question(question="what is it", options=("tea", "a book"), answer=0)


def adding(pattern: str, tokenizer: Any = None) -> Any:
    tokenizer = tokenizer or byte_tokenizer(closed=False)
    ids = {"<pad>": 0, "<s>": 1, "</s>": 2}
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=pattern, special_tokens=[(token, n) for token, n in ids.items() if token in pattern]
    )
    return tokenizer


@pytest.fixture(scope="module")
def llm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llm(tmp_path_factory.mktemp("llm"))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_prompt_begins_as_the_tokenizer_does_and_ends_once(pattern: str) -> None:
    tokenizer = adding(pattern)
    assert begin_ids(tokenizer) == PATTERNS[pattern]
    tokens = encode(tokenizer, "Video:<video>\nAnswer: ", continuations=["tea"])
    plain = adding("$A")
    assert tokens.before == [*PATTERNS[pattern], *plain("Video:").input_ids]
    assert [*tokens.after, *tokens.continuations[0]] == [*plain("\nAnswer: tea").input_ids, 2]


def test_a_tokenizer_without_begin_or_end_token() -> None:
    tokenizer = adding("$A")
    tokenizer.bos_token = tokenizer.eos_token = None
    tokens = encode(tokenizer, "<video>Answer: ", continuations=["tea"])
    assert tokens.before == []
    assert tokens.continuations == [tokenizer(" tea").input_ids]


def test_a_tokenizer_that_changes_the_text_is_told() -> None:
    def tokenizer(text: str, *, add_special_tokens: bool = True) -> Any:
        return type("Encoding", (), {"input_ids": [1, 7, 2] if add_special_tokens else [9]})

    with pytest.raises(UserError, match=r"reads 'a' as \[1, 7, 2\], but without special tokens as \[9\]"):
        begin_ids(tokenizer)


@pytest.mark.parametrize(
    ("prompt", "options"), [("is <video> </s> it?", ["a"]), ("is <video> it?", ["a", "<s>b"])]
)
def test_a_special_token_in_the_text_is_refused(prompt: str, options: list[str]) -> None:
    with pytest.raises(
        UserError, match=r"the text contains </?s>, a special token of the model: rephrase it"
    ):
        encode(byte_tokenizer(closed=False), prompt, continuations=options)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_story_and_its_question_are_one_text(pattern: str, llm_dir: Path) -> None:
    """The reader's score is that of the whole text in one forward, begun once."""
    llm, tokenizer = load_llm(str(llm_dir))
    (scores,) = Reader(llm, adding(pattern, tokenizer)).scores(["he pours tea"], [QUESTION])
    plain = adding("$A")
    for option, score in zip(QUESTION.options, scores, strict=True):
        text = "Video:\n1: he pours tea.\nQuestion: what is it\nAnswer: "
        ids = [*PATTERNS[pattern], *plain(text + option + ".").input_ids, 2]
        with torch.no_grad():
            logprobs_LV = llm(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(ids) - len(plain(" " + option + ".").input_ids) - 1
        expected = [logprobs_LV[i - 1, ids[i]].item() for i in range(start, len(ids))]
        assert score == pytest.approx(sum(expected) / len(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("named", "ends"), [([5, 6], {2, 5, 6}), (5, {2, 5}), (None, {2})], ids=["list", "one", "none"]
)
def test_every_end_token_ends_an_answer(named: Any, ends: set[int], llm_dir: Path) -> None:
    llm, tokenizer = load_llm(str(llm_dir))
    llm.generation_config.eos_token_id = named
    assert end_ids(tokenizer, llm) == ends
    config = PrefixLMConfig(
        llm=str(llm_dir), encoder="e", feature_dim=4, adapter="none", prompt_style="plain"
    )
    model = PrefixLM(config, llm=llm, tokenizer=tokenizer).eval()
    word = tokenizer("tea", add_special_tokens=False).input_ids
    for end in ends:
        forced = _forcing(llm, [*word, end, *word])
        assert model.generate(None, prompt="<video>Answer: ", max_new_tokens=7) == "tea"
        forced.remove()


def test_a_model_that_cannot_learn_to_end_is_told(llm_dir: Path) -> None:
    llm, tokenizer = load_llm(str(llm_dir))
    tokenizer.eos_token = None
    config = PrefixLMConfig(llm="some/llm", encoder="e", feature_dim=4, adapter="none")
    model = PrefixLM(config, llm=llm, tokenizer=tokenizer)
    with pytest.raises(UserError, match="the tokenizer of some/llm has no end token: set its eos_token"):
        model.encode_example(torch.zeros(1, 4), prompt="<video>Answer: ", answer="tea")


def _forcing(llm: Any, ids: Sequence[int]) -> Any:
    """Make the model say these tokens one after another."""
    rest = list(ids)

    def force(module: Any, inputs: Any, output: Any) -> Any:
        output[:, -1] = torch.nn.functional.one_hot(torch.tensor(rest.pop(0)), output.shape[-1]).float()
        return output

    return llm.lm_head.register_forward_hook(force)
