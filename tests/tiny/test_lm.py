"""The language model's corpus: what a question attends to, what is scored, and a run whose result loads again."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tideo.models.prompts import IGNORE
from tideo.tiny.lm import Curriculum, LMConfig, Stage, pretrain_lm
from tideo.tiny.lm_corpus import Drills, Glimpses, Stories, corpus
from tideo.tiny.lm_sequences import collate
from tideo.tiny.tokenizer import train_tokenizer

STAGES = (
    Stage(steps=2, batch=2, drills=1.0, bare=1.0),
    Stage(steps=2, batch=3, glimpses=0.5, soft_frames=0.5),
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus(60), vocab_size=4096)


def test_a_frequent_phrase_is_one_token_and_any_text_comes_back(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer(" pouring tea")["input_ids"]) == 1
    assert tokenizer.decode(tokenizer("Wer fragt, 7 Öfen?")["input_ids"]) == "wer fragt, 7 öfen?"


@pytest.mark.parametrize("dataset", [Stories, Glimpses, Drills])
def test_a_question_sees_the_story_and_itself(dataset: type, tokenizer: PreTrainedTokenizerFast) -> None:
    sequences = [dataset(tokenizer, num=4)[i] for i in range(2)]
    batch = collate(sequences, pad_id=0)
    seen = (batch["attention_mask"][:, 0] == 0).tolist()
    for row, sequence in enumerate(sequences):
        for i in range(len(sequence.ids)):
            for j in range(len(sequence.ids)):
                ours = sequence.block[j] in (0, sequence.block[i])
                assert seen[row][i][j] == (j <= i and ours)
        story = sequence.block.count(0)
        assert {sequence.positions[sequence.block.index(b)] for b in range(1, max(sequence.block) + 1)} == {
            story
        }


def test_labels_are_the_next_token_of_the_same_block(tokenizer: PreTrainedTokenizerFast) -> None:
    sequence = Stories(tokenizer, num=4)[1]
    for i, (here, there) in enumerate(pairwise(sequence.block)):
        if sequence.labels[i] != IGNORE:
            assert here == there
            assert sequence.labels[i] == sequence.ids[i + 1]
    ends = [i for i, token in enumerate(sequence.ids) if token == tokenizer.eos_token_id]
    assert len(ends) == max(sequence.block)  # every question is answered to its end
    assert all(sequence.labels[i] == IGNORE for i in ends)


def test_facts_are_asked_by_name_where_the_story_tells_them(tokenizer: PreTrainedTokenizerFast) -> None:
    def facts(form: str) -> list[str]:
        sequences = (Stories(tokenizer, num=9, forms=((form, 1.0),), facts=1)[i] for i in range(8))
        return [
            text
            for d in sequences
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
        sequence = Glimpses(tokenizer, num=20)[i]
        story, *asked = tokenizer.decode(sequence.ids).split("\nfacts:")
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


@pytest.mark.slow
def test_a_run_saves_a_llama_that_loads(tmp_path: Path) -> None:
    config = LMConfig(
        stages=STAGES, hidden_size=32, intermediate_size=32, num_layers=1, num_heads=2, tokenizer_episodes=20
    )
    out = pretrain_lm(config, out=tmp_path)
    model = AutoModelForCausalLM.from_pretrained(out)
    ids = AutoTokenizer.from_pretrained(out)("Video: pouring tea.", return_tensors="pt")["input_ids"]
    assert torch.isfinite(model(ids).logits).all()
