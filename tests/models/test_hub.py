"""A model goes to a hub and comes back with the same answers: the real client, a hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY, Tideo
from fake_hub import Hub, hub
from tideo.bundled import ASSETS
from tideo.models.hub import card, collected
from tideo.models.load import load_model
from tideo.types import UserError
from tiny import videos_in


def python(*args: str, of: Hub, home: Path) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ, "HF_ENDPOINT": of.url, "HF_HOME": str(home), "HF_TOKEN": "hf_for_this_test",
        "PYTHONPATH": str(REPOSITORY / "src"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, timeout=300)


PUSH_AND_ASK = """
import json, shutil, sys
from tideo.cli import run
folder, *question = sys.argv[1:]
assert run(["push", folder, "us/model"]) == 0
shutil.rmtree(folder)
assert run(["ask", *question, "--json", "--model", "us/model"]) == 0
"""


def in_runs(name: str, place: Path) -> Path:
    """A bundled model as training leaves it: elsewhere, naming what it needs by relative paths."""
    folder = place / "run"
    shutil.copytree(ASSETS / name, folder)
    for file, field in (("config.json", "llm"), ("tideo.json", "encoder")):
        if (folder / "tideo.json").is_file():
            fields = json.loads((folder / file).read_text())
            fields[field] = os.path.relpath(ASSETS / name / fields[field], folder)
            (folder / file).write_text(json.dumps(fields))
    (folder / "README.md").unlink()
    (folder / "steps").mkdir()
    (folder / "steps" / "optimizer.pt").write_bytes(b"x")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dollhouse-topa", "dollhouse-grid"])
def test_there_and_back(
    name: str, tideo: Tideo, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    video = min((videos_in(tmp_path_factory.getbasetemp()) / "videos").iterdir())
    question = [str(video), "what is the overall purpose of the video?", "--option", "making tea"]
    question += ["--option", "doing the laundry"]
    with hub() as there:
        done = python(
            "-c", PUSH_AND_ASK, str(in_runs(name, tmp_path)), *question, of=there, home=tmp_path / "hf"
        )
    assert done.returncode == 0, done.stderr
    url, reply = done.stdout.split("\n", 1)
    assert url == f"{there.url}/us/model"
    files = there.files["us/model"]
    assert not any(place.startswith("steps") for place in files)
    assert b"library_name: tideo" in files["README.md"]
    here = tideo("ask", *question, "--json", "--model", name)
    assert json.loads(reply)["loglikelihoods"] == json.loads(here.stdout)["loglikelihoods"]


@pytest.mark.slow
def test_what_the_hub_refuses_is_one_line(tmp_path: Path) -> None:
    with hub() as there:
        there.refuse = True
        refused = python(
            "-m", "tideo", "push", str(ASSETS / "dollhouse-topa"), "us/model", of=there, home=tmp_path
        )
        assert refused.returncode == 2
        assert refused.stderr.startswith("tideo: the hub refuses us/model: ")
        assert refused.stderr.count("\n") == 1
        absent = python(
            "-m", "tideo", "ask", "v.mp4", "why?", "--model", "us/absent", of=there, home=tmp_path
        )
        assert absent.returncode == 2
        assert absent.stderr.count("\n") == 1


def test_a_folder_of_this_machine_is_not_named_elsewhere(tmp_path: Path) -> None:
    folder = in_runs("dollhouse-topa", tmp_path)
    (tmp_path / "llama").mkdir()
    fields = json.loads((folder / "config.json").read_text()) | {"llm": "../llama"}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(
        UserError, match=r"names ../llama, a folder of this machine: replace it with the Hugging Face id"
    ):
        collected(folder)
    fields["llm"] = "meta-llama/Llama-2-7b-hf"
    (folder / "config.json").write_text(json.dumps(fields))
    assert "dollhouse-lm/config.json" not in collected(folder)
    with pytest.raises(UserError, match="a fusion names other models"):
        collected(ASSETS / "dollhouse-fusion")


def test_the_card_names_the_recipe(tmp_path: Path) -> None:
    folder = in_runs("dollhouse-topa", tmp_path)
    assert "How it was trained" not in card(folder)
    run = {"recipe": {"num": 7}, "versions": {"torch": "2"}, "commit": None, "seed": 3, "command": "x"}
    (folder / "run.json").write_text(json.dumps(run))
    assert '"num": 7' in card(folder)
    assert load_model(str(folder)).settings.num_frames == 10
