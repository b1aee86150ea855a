"""A server to ask, and a video to ask about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_server import Serve, serving
from videos import encode


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as start:
        yield start


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 10 frames a second, with a name that a URL has to quote."""
    path = tmp_path_factory.mktemp("own videos") / "a 100% video.mp4"
    encode(path, num=60, size=(96, 64), options={"g": "25"})
    return path
