"""A server on loopback with a real model of a few lines, and a client's view of it."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tideo.models.batching import BatchSize
from tideo.models.interface import AS_TRAINED, Asked, Controls, VideoInput, VideoModel
from tideo.serve.app import application
from tideo.serve.connection import http_server
from tideo.serve.server import ServerSettings
from tideo.types import Answer, Frames, Sample, UserError, Video


class Longest(VideoModel):
    """Takes the longest option; its reply to an open question is the question. Keeps what it was asked.

    `batch`: the questions of several videos that it takes together. It answers while `goes_on` is set.
    """

    name = "longest"

    def __init__(self, *, seconds: float = 0.0, batch: int = 1) -> None:
        self.seconds, self.batch = seconds, batch
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.batches: list[int] = []
        self.looks: list[Video] = []
        self.calls: list[list[str]] = []
        self.frames: list[Frames | None] = []

    def batch_size(self) -> BatchSize:
        return BatchSize(self.batch)

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        self.batches.append(sum(len(a.samples) for a in asked))
        return super().answer_many(asked, at_once=at_once)

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        self.looks.append(video)
        return super().look(video, controls=controls)

    def answer(
        self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, controls: Controls = AS_TRAINED
    ) -> list[Answer]:
        self.calls.append([sample.question for sample in samples])
        time.sleep(self.seconds)
        self.goes_on.wait(30)
        self.frames.append(seen)
        if samples[0].question == "a fault":
            raise ZeroDivisionError("of the model's own")
        return [self._answer(sample, seen) for sample in samples]

    def _answer(self, sample: Sample, seen: Frames) -> Answer:
        pts_s = tuple(seen.pts_s_T.tolist())
        if not sample.options:
            return Answer(sample_id=sample.id, text=sample.question, pts_s=pts_s)
        if sample.question == "too long":
            return Answer(sample_id=sample.id, error=str(UserError("9 tokens exceed the model's context")))
        lengths = tuple(float(len(option)) for option in sample.options)
        return Answer(
            sample_id=sample.id, loglikelihoods=lengths, num_tokens=(1,) * len(lengths), pts_s=pts_s
        )

    def out_of_distribution(self, frames: Frames) -> str | None:
        return "this video is unlike others" if frames.rgb_THWC.std() < 1 else None


class Slow(Longest):
    """Writes a word every 20 ms for ever, or as many as are asked for. Says so of every word in `written`."""

    name = "longest"

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        ((sample, listener),) = [(s, a.listeners[s.id]) for a in asked for s in a.samples]
        listener.prompt_tokens = 7
        num = 1000 if listener.max_new_tokens is None else listener.max_new_tokens
        for n in range(num):
            if listener.has_left():
                break
            time.sleep(0.02)
            if n == 3 and sample.question == "a fault":
                raise ZeroDivisionError("of the model's own")
            self.written.append(f"word{n} ")
            if listener.on_text is not None:
                listener.on_text(self.written[-1])
        listener.reply_tokens, listener.truncated = num, True
        return [[Answer(sample_id=sample.id, text="".join(self.written))]]


@dataclass
class Running:
    url: str
    model: Longest
    stop: Callable[[], None]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return self._sent(urllib.request.Request(self.url + path, headers=headers))

    def post(self, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("/v1/chat/completions", data, **{"Content-Type": "application/json"} | headers)

    def send(self, path: str, data: bytes, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return self._sent(urllib.request.Request(self.url + path, data=data, headers=headers))

    def _sent(self, request: urllib.request.Request) -> tuple[int, Any, dict[str, str]]:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                status, headers, body = response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            status, headers, body = error.code, dict(error.headers), error.read()
        kind = headers.get("content-type", "")
        return status, json.loads(body) if kind.startswith("application/json") else body.decode(), headers


def started(*, model: VideoModel | None = None, **settings: Any) -> Running:
    """A server with these settings, and its model; to be stopped."""
    model = model or Longest()
    server = http_server(application([model], ServerSettings(**settings)), timeout_graceful_shutdown=5)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)

    def stop() -> None:
        server.should_exit = True
        thread.join(10)
        listening.close()

    return Running(url=f"http://127.0.0.1:{listening.getsockname()[1]}", model=model, stop=stop)


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """The function `started`; what it starts ends with the test."""
    servers: list[Running] = []

    def start(**settings: Any) -> Running:
        servers.append(started(**settings))
        return servers[-1]

    yield start
    for running in servers:
        running.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """One server for all tests that only ask, which is quicker."""
    running = started(max_upload_mb=1)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    """One that asks for the key "secret"."""
    running = started(key="secret")
    yield running
    running.stop()
