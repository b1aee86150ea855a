"""Chosen frames over HTTP: a served model that chooses them, and a model on a server that is sent them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chat_server import said, serving
from tideo.models.load import load_model
from tideo.types import Sample, Video
from tiny import model_in
from videos import encode, index_of

pytestmark = pytest.mark.slow

QUESTIONS = ("what is he doing?", "where is the cup?", "who reads a red book in the garden?")
OPTIONS = ["making tea in the kitchen", "a nap", "washing"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    encode(path, num=250)  # 25 s
    return path


def body(video: Path, question: str, model: str) -> dict[str, Any]:
    url = "data:video/mp4;base64," + base64.b64encode(video.read_bytes()).decode()
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": question}]
    return {"model": model, "messages": [{"role": "user", "content": parts}], "options": OPTIONS}


def test_a_served_model_looks_at_other_frames_for_each_question(
    video: Path, serve: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(model_in(tmp_path_factory.getbasetemp()))
    model = load_model(folder, args=["sampler=bolt"])
    running = serve(model=model)
    shown = []
    for question in QUESTIONS:
        status, reply, _ = running.post(body(video, question, model.name))
        assert status == 200, reply
        shown.append(reply["tideo"]["pts_s"])
    alone = load_model(folder, args=["sampler=bolt"])
    of = [Sample(id=q, video=Video(id="v", path=str(video)), question=q) for q in QUESTIONS]
    assert shown == [alone.look_for(sample).pts_s_T.tolist() for sample in of]
    assert len(set(map(tuple, shown))) > 1


def test_a_model_on_a_server_is_sent_the_chosen_frames(video: Path) -> None:
    with serving() as start:
        server = start(lambda n, request: said("B"))
        args = ["sampler=bolt", "selector=dollhouse-clip", "send=frames", "frames=4", "retries=0"]
        model = load_model(f"openai:m@{server.url}", args=args)
        shown = []
        for question in QUESTIONS:
            sample = Sample(
                id=question,
                video=Video(id="v", path=str(video)),
                question=question,
                options=tuple(OPTIONS),
            )
            (answer,) = model.answer(sample.video, [sample], seen=model.look_for(sample))
            assert (answer.choice, answer.error) == (1, None)
            shown.append([round(10 * time_s) for time_s in answer.pts_s])
    sent = [_indices(request) for request in server.requests]
    assert [
        indices for indices in sent if indices
    ] == shown  # one without pictures shows whether they are taken
    assert len(set(map(tuple, shown))) > 1
    assert shown[0] != [3, 9, 15, 21]


def _indices(request: dict[str, Any]) -> list[int]:
    """Which frames of the video were sent."""
    urls = [p["image_url"]["url"] for p in request["messages"][-1]["content"] if p["type"] == "image_url"]
    pictures = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
    return [index_of(np.asarray(picture.convert("RGB"))) for picture in pictures]
