"""A server of strangers: `transformers serve` with a tiny image-text model of random weights."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tideo.models.load import load_model
from tideo.types import Answer, Sample, Video
from tiny_vlms import saved
from videos import encode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")),
        reason="transformers serve needs fastapi and uvicorn",
    ),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the served model, for `load_model`."""
    folder = saved("llava", tmp_path_factory.mktemp("tiny"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    how = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "transformers.cli.transformers", *how],
            env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until_s = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until_s
                time.sleep(0.5)
        yield f"openai:{folder}@http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def ask(model: str, tmp_path: Path, *args: str) -> Answer:
    encode(tmp_path / "a.mp4", num=40)
    video = Video(id="a", path=str(tmp_path / "a.mp4"))
    loaded = load_model(model, args=["retries=1", "max_new_tokens=8", *args])
    sample = Sample(id="q", video=video, question="what is it")
    (answer,) = loaded.answer(video, [sample], seen=loaded.look(video))
    return answer


@pytest.mark.parametrize(
    "args", [["image_size=28"], ["panels=3", "image_size=28"], ["send=frames", "frames=5"]], ids=" ".join
)
def test_it_takes_pictures(
    args: list[str], model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(model, tmp_path, *args)
    assert answer.error is None
    assert answer.text
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_it_drops_a_part_that_it_does_not_know_and_we_say_so(
    model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(model, tmp_path, "send=video", "video_as=input_video").error is None
    assert "the server seems not to have taken the video" in caplog.text


def test_a_video_that_its_model_does_not_take_is_an_error(model: str, tmp_path: Path) -> None:
    answer = ask(model, tmp_path, "send=video", "video_as=plain_path")
    assert "500: Internal Server Error (send=video; if the server takes no video, set send=frames)" in str(
        answer.error
    )
