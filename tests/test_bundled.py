"""Names of models: what is a path, and what the hub says of the others, by one request."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from conftest import REPOSITORY
from fake_hub import hub
from tideo.bundled import ASSETS, is_path, located
from tideo.types import UserError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("./a", True), ("../a", True), (".", True), ("~/a", True), ("~you/a", True), ("/a", True), ("runs/a", True),
        ("a/b/c", True), ("a/", True), ("there/a", True), ("a/b", False), ("a", False), ("gpt2", False),
        ("open_clip:ViT-B-16/laion2b", False), ("open_clip:hf-hub:a/b", False), ("a.b/c-d_e", False),
    ],
)  # fmt: skip
def test_what_has_the_form_of_a_path(
    name: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_path(name) is expected
    if expected and name != ".":
        with pytest.raises(UserError, match=r"there is no folder|is missing: a recipe writes it"):
            located(name)
    assert located("dollhouse-topa") == str(ASSETS / "dollhouse-topa")


CHECK = "from tideo.bundled import model_source; print(model_source(name, failure='cannot load it'))"
LOAD = "from tideo.encoders.dual import load_encoder; print(load_encoder(name).dim)"
PROGRAM = """
import sys
from tideo import registry
from tideo.cli import run
def describe(kind):
    name = sys.argv[1]
    {body}
    return {{}}
registry.describe = describe
sys.exit(run(["list", "samplers"]))
"""


def load(name: str, *, url: str, home: Path, body: str = CHECK) -> tuple[int, str, str, float]:
    """Look for or load a model by its name in a process: code, standard out, standard error, seconds."""
    env = {
        **os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0",
        "PYTHONPATH": str(REPOSITORY / "src"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "HF_TOKEN": "",
    }  # fmt: skip
    env.pop("HF_HUB_CACHE", None)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body), name],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - begun


@pytest.mark.slow
def test_a_model_of_the_hub_is_had_again_without_it(tmp_path: Path) -> None:
    with hub() as there:
        folder = ASSETS / "dollhouse-clip"
        there.files["us/clip"] = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        assert load("us/clip", url=there.url, home=tmp_path, body=LOAD)[:3] == (0, "128\n", "")
        url = there.url
    code, out, err, _ = load("us/clip", url=url, home=tmp_path, body=LOAD)  # its server is gone
    assert (code, out) == (0, "128\n")
    assert re.fullmatch(
        r"the hub cannot be reached \(.*\): us/clip is used as it was downloaded before\n", err
    )


@pytest.mark.slow
def test_the_hub_answers_or_does_not(tmp_path: Path) -> None:
    with hub() as there:
        there.files["us/model"] = {"config.json": b"{}"}
        assert load("us/model", url=there.url, home=tmp_path)[:3] == (0, "us/model\n", "")
        code, out, err, _ = load("us/none", url=there.url, home=tmp_path)
        assert (code, out) == (2, "")
        assert re.fullmatch(r"tideo: cannot load it: there is no model us/none on the hub.*\n", err)
    code, out, err, seconds = load("us/model", url=there.url, home=tmp_path)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"tideo: cannot load it: the hub cannot be reached .* set HF_HUB_OFFLINE=1 .*\n", err)
    assert seconds < 20


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, "GatedRepo", "for those who have asked for it"),
        pytest.param(503, "", r"the hub cannot be reached \(.*503", marks=pytest.mark.slow),
    ],
)
def test_one_request_tells(status: int, kind: str, message: str, tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.extend([self.path] if "us/model" in self.path else [])
            self.send_response(status)
            self.send_header("X-Error-Code", kind)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    code, out, err, _ = load("us/model", url=f"http://127.0.0.1:{server.server_address[1]}", home=tmp_path)
    server.shutdown()
    server.server_close()
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"tideo: .*{message}.*\n", err), err
    assert len(asked) == 1
