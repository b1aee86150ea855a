"""Frames of a story as one vector each: what stands in them, where, and what a question sees of them."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tideo.dollhouse import world
from tideo.models.prompts import IGNORE
from tideo.tiny.lm_corpus import Drills, Glimpses, Stories, corpus
from tideo.tiny.lm_documents import collate
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


@pytest.mark.parametrize("lesson", [Stories, Glimpses, Drills])
def test_frames_stand_between_video_and_the_questions(
    lesson: type[Stories], tokenizer: PreTrainedTokenizerFast
) -> None:
    documents = [lesson(tokenizer, num=4, pressed=1.0)[i] for i in range(3)]
    batch = collate(documents, pad_id=0)
    rows, columns = batch["frames_at"].tolist()
    assert len(batch["frames"]) == len(rows) == sum(len(d.frames) for d in documents)
    for row, document in enumerate(documents):
        assert tokenizer.decode(document.ids[: document.opening]) == "video:"
        places = [c for r, c in zip(rows, columns, strict=True) if r == row]
        story = document.opening + len(document.frames)
        assert places == list(range(document.opening, story))
        assert document.block[:story] == [0] * story
        assert document.positions[:story] == list(range(story))
        assert document.labels[: story - 1] == [IGNORE] * (story - 1)  # nothing to read off a vector
        assert document.positions[story] == story
        numbers = [tokenizer.decode(frame[:1]) for frame in document.frames]
        assert numbers == [str(n) for n in range(1, len(numbers) + 1)]


def test_a_frame_holds_the_words_of_its_line(tokenizer: PreTrainedTokenizerFast) -> None:
    words, pressed = (Drills(tokenizer, num=40, pressed=p)[7] for p in (0.0, 1.0))
    lines = [tokenizer.decode(frame[1:]).strip() for frame in pressed.frames]
    assert tokenizer.decode(words.ids).split("\nagain")[0] != "video:"
    assert len(lines) >= 3
    phrases = {phrase for action in world.ACTIONS.values() for phrase in action.phrases}
    assert set(lines) <= phrases


def test_neighbours_are_pressed_alike(tokenizer: PreTrainedTokenizerFast) -> None:
    stories = Stories(tokenizer, num=64, pressed=0.5, group=4)
    pressed = [bool(stories[i].frames) for i in range(64)]
    assert all(len(set(pressed[i : i + 4])) == 1 for i in range(0, 64, 4))
    assert len(set(pressed)) == 2


def test_a_story_in_words_has_no_frames(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = collate([Stories(tokenizer, num=4)[i] for i in range(2)], pad_id=0)
    assert batch["frames"] == []
    assert batch["frames_at"].shape == (2, 0)
