"""The language model's lessons: what a question sees, what is scored, and that a run saves what loads again."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tideo.models.prompts import IGNORE
from tideo.tiny.lm import Curriculum, LMConfig, Stage, pretrain_lm
from tideo.tiny.lm_corpus import Drills, Glimpses, Stories, corpus
from tideo.tiny.lm_documents import collate
from tideo.tiny.tokenizer import train_tokenizer

STAGES = (Stage(steps=2, batch=2, drills=1.0, bare=1.0), Stage(steps=2, batch=3, glimpses=0.5, pressed=0.5))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus(60), vocab_size=4096)


def test_a_frequent_phrase_is_one_token_and_any_text_comes_back(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer(" pouring tea")["input_ids"]) == 1
    assert tokenizer.decode(tokenizer("Wer fragt, 7 Öfen?")["input_ids"]) == "wer fragt, 7 öfen?"


@pytest.mark.parametrize("lesson", [Stories, Glimpses, Drills])
def test_a_question_sees_the_story_and_itself(lesson: type, tokenizer: PreTrainedTokenizerFast) -> None:
    documents = [lesson(tokenizer, num=4)[i] for i in range(2)]
    batch = collate(documents, pad_id=0)
    seen = batch["attention_mask"][:, 0] == 0
    for row, document in enumerate(documents):
        for i in range(len(document.ids)):
            for j in range(len(document.ids)):
                ours = document.block[j] in (0, document.block[i])
                assert seen[row, i, j] == (j <= i and ours)
        story = document.block.count(0)
        assert {document.positions[document.block.index(b)] for b in range(1, max(document.block) + 1)} == {
            story
        }


def test_labels_are_the_next_token_of_the_same_block(tokenizer: PreTrainedTokenizerFast) -> None:
    document = Stories(tokenizer, num=4)[1]
    for i, (here, there) in enumerate(pairwise(document.block)):
        if document.labels[i] != IGNORE:
            assert here == there
            assert document.labels[i] == document.ids[i + 1]
    ends = [i for i, token in enumerate(document.ids) if token == tokenizer.eos_token_id]
    assert len(ends) == max(document.block)  # every question is answered to its end
    assert all(document.labels[i] == IGNORE for i in ends)


def test_facts_are_asked_by_name_where_the_story_tells_them(tokenizer: PreTrainedTokenizerFast) -> None:
    def facts(form: str) -> list[str]:
        documents = (Stories(tokenizer, num=9, forms=((form, 1.0),), facts=1)[i] for i in range(8))
        return [
            text
            for d in documents
            for text in tokenizer.decode(d.ids).split("\n")
            if text.startswith("facts")
        ]

    full = facts("full")
    assert len(full) == 8
    assert all(
        f" {name}:" in text for text in full for name in ("shirt", "weather", "shelf", "side", "could")
    )
    assert not any("weather" in text for form in ("main", "actions", "list") for text in facts(form))
    assert any("wiping the table: with" in text or " on a " in text for text in facts("actions"))


def test_a_glimpse_asks_only_what_it_tells(tokenizer: PreTrainedTokenizerFast) -> None:
    for i in range(20):
        document = Glimpses(tokenizer, num=20)[i]
        story, *asked = tokenizer.decode(document.ids).split("\nfacts:")
        for text in asked:
            assert ("shirt:" in text) == (" shirt" in story)
            assert ("weather:" in text) == (" outside" in story)
            assert ("shelf:" in text) == ("shelf" in story)


def test_a_step_is_the_same_whenever_it_is_drawn(tokenizer: PreTrainedTokenizerFast) -> None:
    curriculum = Curriculum(tokenizer, LMConfig(stages=STAGES))
    assert [len(curriculum[i]) for i in range(len(curriculum))] == [2, 2, 3, 3]
    assert curriculum[3] == Curriculum(tokenizer, LMConfig(stages=STAGES))[3]
    with pytest.raises(IndexError):
        curriculum[4]


def test_a_run_saves_a_llama_that_loads(tmp_path: Path) -> None:
    config = LMConfig(
        stages=STAGES, hidden_size=32, intermediate_size=32, num_layers=1, num_heads=2, tokenizer_episodes=20
    )
    out = pretrain_lm(config, out=tmp_path)
    model = AutoModelForCausalLM.from_pretrained(out)
    ids = AutoTokenizer.from_pretrained(out)("Video: pouring tea.", return_tensors="pt")["input_ids"]
    assert torch.isfinite(model(ids).logits).all()
