"""The command: what it refuses at once, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")


def test_a_media_folder_that_is_missing(tideo) -> None:
    done = tideo("serve", "--media-dir", "nowhere")
    assert (done.returncode, done.stderr) == (2, "tideo: --media-dir nowhere: there is no such folder\n")


def test_a_port_that_is_taken_is_known_before_models_are_loaded(tideo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = tideo("serve", "--port", str(port), "--model", "no-such-model")
    assert done.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_model(tideo) -> None:
    done = tideo("serve", "--port", "0", "--model", "dollhouse-topo")
    assert done.returncode == 2
    assert "did you mean dollhouse-topa" in done.stderr


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address that it prints; its temporary files lie in the folder."""
    command = [sys.executable, "-m", "tideo", "serve", "--port", "0"]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def model_names(address: str) -> list[str]:
    with urllib.request.urlopen(address + "/v1/models", timeout=30) as reply:
        return [model["id"] for model in json.load(reply)["data"]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_and_ends_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with served(tmp_path) as (process, address):
        assert model_names(address) == ["dollhouse-topa"]
        assert len(list(tmp_path.glob("tideo-serve-*"))) == 1
        process.send_signal(number)
        assert process.wait(20) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert list(tmp_path.glob("tideo-serve-*")) == []


@pytest.mark.slow
def test_one_that_was_killed_is_cleaned_up_after_by_the_next(tmp_path: Path) -> None:
    with served(tmp_path) as (process, address):
        model_names(address)
        process.kill()
        process.wait(20)
    left = list(tmp_path.glob("tideo-serve-*"))
    assert len(left) == 1
    with served(tmp_path) as (_, address):
        model_names(address)
        assert len(set(tmp_path.glob("tideo-serve-*")) - set(left)) == 1
        assert not left[0].exists()
