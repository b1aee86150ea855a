"""Frames of a story as one vector each: what stands in them, where, and what a question sees of them."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tideo.dollhouse import world
from tideo.models.prompts import IGNORE
from tideo.tiny.lm_corpus import Drills, Glimpses, Stories, corpus
from tideo.tiny.lm_sequences import collate
from tideo.tiny.tokenizer import train_tokenizer
from tideo.train.topa.soft_frames import pool_frames, token_weights


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus(60), vocab_size=4096)


def test_rare_tokens_weigh_more() -> None:
    weights_V = token_weights([[0, 0, 0], [1]], vocab_size=3)
    assert weights_V.tolist() == pytest.approx([0.001 / 0.751, 0.001 / 0.251, 1.0])


def test_a_frame_is_the_weighted_mean_at_the_usual_length() -> None:
    table_VH = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    vectors_NH = pool_frames(table_VH, [[0, 1], [1], [0, 2]], weights_V=torch.tensor([3.0, 4.0, 1.0]))
    assert torch.allclose(vectors_NH, torch.tensor([[1.2, 1.6], [0.0, 2.0], [2.0, 0.0]]))


@pytest.mark.parametrize("dataset", [Stories, Glimpses, Drills])
def test_frames_stand_between_video_and_the_questions(
    dataset: type[Stories], tokenizer: PreTrainedTokenizerFast
) -> None:
    sequences = [dataset(tokenizer, num=4, soft_frames=1.0)[i] for i in range(3)]
    batch = collate(sequences, pad_id=0)
    rows, columns = batch["frames_at"].tolist()
    assert len(batch["frames"]) == len(rows) == sum(len(d.frames) for d in sequences)
    for row, sequence in enumerate(sequences):
        assert tokenizer.decode(sequence.ids[: sequence.opening]) == "video:"
        places = [c for r, c in zip(rows, columns, strict=True) if r == row]
        story = sequence.opening + len(sequence.frames)
        assert places == list(range(sequence.opening, story))
        assert sequence.block[:story] == [0] * story
        assert sequence.positions[:story] == list(range(story))
        assert sequence.labels[: story - 1] == [IGNORE] * (story - 1)  # nothing to read off a vector
        assert sequence.positions[story] == story
        numbers = [tokenizer.decode(frame[:1]) for frame in sequence.frames]
        assert numbers == [str(n) for n in range(1, len(numbers) + 1)]


def test_a_frame_holds_the_words_of_its_line(tokenizer: PreTrainedTokenizerFast) -> None:
    words, soft = (Drills(tokenizer, num=40, soft_frames=p)[7] for p in (0.0, 1.0))
    lines = [tokenizer.decode(frame[1:]).strip() for frame in soft.frames]
    assert tokenizer.decode(words.ids).split("\nagain")[0] != "video:"
    assert len(lines) >= 3
    phrases = {phrase for action in world.ACTIONS.values() for phrase in action.phrases}
    assert set(lines) <= phrases


def test_neighbours_have_soft_frames_alike(tokenizer: PreTrainedTokenizerFast) -> None:
    stories = Stories(tokenizer, num=64, soft_frames=0.5, group=4)
    soft = [bool(stories[i].frames) for i in range(64)]
    assert all(len(set(soft[i : i + 4])) == 1 for i in range(0, 64, 4))
    assert len(set(soft)) == 2


def test_a_story_in_words_has_no_frames(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = collate([Stories(tokenizer, num=4)[i] for i in range(2)], pad_id=0)
    assert batch["frames"] == []
    assert batch["frames_at"].shape == (2, 0)
