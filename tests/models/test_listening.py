"""What models that ship note for a listener of an answer, and when they stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tideo.models.interface import Asked, VideoModel
from tideo.models.listener import Listener
from tideo.models.load import load_model
from tideo.types import Answer, Sample, Video
from videos import encode

OPTIONS = ("pouring tea", "reading a book in the garden")


@pytest.fixture(
    scope="module",
    params=["dollhouse-topa", "dollhouse-grid", pytest.param("dollhouse-fusion", marks=pytest.mark.slow)],
)
def model(request: pytest.FixtureRequest) -> VideoModel:
    return load_model(request.param)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path: Path = tmp_path_factory.mktemp("video") / "v.mp4"
    encode(path, num=40)
    return Video(id="v", path=str(path))


def answer(model: VideoModel, video: Video, listener: Listener, *, options: tuple[str, ...] = ()) -> Answer:
    sample = Sample(id="q", video=video, question="what happens?", options=options)
    asked = Asked(video=video, samples=[sample], seen=model.look(video), listeners={"q": listener})
    [[found]] = model.answer_many([asked], at_once=1)
    return found


def test_a_reply_in_words(model, video):
    pieces: list[str] = []
    listener = Listener(on_text=pieces.append)
    found = answer(model, video, listener)
    assert "".join(pieces) == found.text != ""
    assert len(pieces) > 1
    assert (listener.reply_tokens, listener.truncated) == (len(pieces), False)
    assert listener.prompt_tokens > 10


def test_a_limit(model, video):
    whole, listener = Listener(), Listener(max_new_tokens=1)
    text = answer(model, video, whole).text
    assert text.startswith(answer(model, video, listener).text)
    assert (listener.reply_tokens, listener.truncated) == (1, True)
    assert listener.prompt_tokens == whole.prompt_tokens
    assert answer(model, video, Listener(max_new_tokens=10**6)).text == text


def test_a_listener_that_leaves(model, video):
    listener = Listener(has_left=lambda: True)
    answer(model, video, listener)
    assert listener.reply_tokens <= 1


def test_options(model, video):
    with_options, in_words = Listener(), Listener()
    answer(model, video, with_options, options=OPTIONS)
    answer(model, video, in_words)
    assert with_options.option_tokens[0] < with_options.option_tokens[1]
    assert abs(with_options.prompt_tokens - in_words.prompt_tokens) < 10
