"""The examples of the page about the server, against a real one."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tideo.models.load import load_model
from videos import encode

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
VIDEOS = "out/demo/dollhouse/videos"
ADDRESS = "http://127.0.0.1:8000"


def example(language: str, word: str) -> str:
    """The code block in that language that holds the word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return next(block for block in blocks if word in block)


@pytest.fixture
def running(serve, tmp_path):
    encode(tmp_path / "test_0_000000.mp4", num=40, container_format="mp4")
    return serve(model=load_model("dollhouse-topa"), media_dir=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(running):
    command = example("sh", "curl").replace(ADDRESS, running.url)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    reply = json.loads(done.stdout)
    assert reply["choices"][0]["message"]["content"] in ("making tea", "doing the laundry")
    assert reply["usage"]["prompt_tokens"] > 10


@pytest.mark.slow
def test_openai(running, tmp_path):
    code = example("python", "OpenAI").replace(ADDRESS, running.url).replace(VIDEOS, str(tmp_path))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "serve.md", "exec"), {})
    chosen, words = printed.getvalue().split("\n")
    assert re.fullmatch(r"(making tea|doing the laundry) \[-\d.*, -\d.*\]", chosen)
    assert words.strip()
