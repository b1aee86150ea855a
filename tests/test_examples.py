"""The examples run as their docstrings say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import REPOSITORY
from tideo.store.features import FeatureStore
from videos import encode

EXAMPLES = REPOSITORY / "examples"
PLUGIN = EXAMPLES / "plugin"


def run(*args: str, cwd: Path, also: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(REPOSITORY / "src"), *([str(also), str(EXAMPLES / "plugin")] if also else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The plugin's metadata as pip would write it."""
    project = tomllib.loads((EXAMPLES / "plugin" / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site" / "tideo_plugin_example-0.1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder.parent


@pytest.mark.slow
def test_the_plugin_adds_a_benchmark_and_a_model(installed: Path, tmp_path: Path) -> None:
    listed = run("-m", "tideo", "list", "benchmarks", cwd=tmp_path, also=installed)
    assert "quiz                 Questions of one's own, a line each." in listed.stdout
    args = [
        "eval",
        "quiz",
        "--data",
        str(PLUGIN / "quiz.txt"),
        "--videos",
        str(tmp_path),
        "--model",
        "longest",
    ]
    done = run("-m", "tideo", *args, "--out", "out", "--permute", cwd=tmp_path, also=installed)
    assert done.returncode == 0, done.stderr
    told = ("quiz: 50.0% of 2 questions", "quiz: 50.0%, the mean of 2 kinds", "50.0% right in all 3 orders")
    assert done.stdout.startswith("\n".join(told))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {kind: of["accuracy"] for kind, of in report["by_kind"].items()} == {"what": 0.0, "why": 1.0}
    done = run("-m", "tideo", "export", "out", "--out", "quiz.out", cwd=tmp_path, also=installed)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"1: [ABC]\n2: [ABC]\n", (tmp_path / "quiz.out").read_text())


@pytest.mark.slow
def test_the_plugin_adds_an_encoder_and_a_sampler(installed: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    encode(videos / "a.mp4")
    args = ["encode", str(videos), "--encoder", "colours", "--sampler", "late", "--num-frames", "4"]
    done = run("-m", "tideo", *args, "--out", "features", cwd=tmp_path, also=installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "features\n"
    assert "1 items in features, 1 of them encoded now" in done.stderr
    store = FeatureStore(tmp_path / "features", dim=8, about={"encoder": "colours-1", "modality": "image"})
    (name,) = store
    assert store[name].shape == (4, 8)
    assert store.pts_s(name)[0] >= 2 / 3 * store.pts_s(name)[-1] - 0.1
    args = [
        "grid",
        str(videos / "a.mp4"),
        "--rows",
        "1",
        "--cols",
        "2",
        "--sampler",
        "best",
        "--encoder",
        "colours",
    ]
    done = run("-m", "tideo", *args, "--question", "red?", "--out", "g.png", cwd=tmp_path, also=installed)
    assert (done.returncode, done.stdout) == (0, "g.png\n"), done.stderr


@pytest.mark.slow
def test_the_plugin_adds_a_recipe(installed: Path, tmp_path: Path) -> None:
    listed = run("-m", "tideo", "list", "recipes", cwd=tmp_path, also=installed)
    assert "short_topa " in listed.stdout
    small = ("num_tideos=20", "train.steps=2", "train.batch=2")
    sets = [word for pair in small for word in ("--set", pair)]
    done = run("-m", "tideo", "prealign", "short_topa", *sets, "--out", "m", cwd=tmp_path, also=installed)
    assert done.returncode == 0, done.stderr
    assert {"config.json", "model.safetensors", "tideo.json"} <= {p.name for p in (tmp_path / "m").iterdir()}


def test_the_page_shows_the_files_that_are_tested() -> None:
    page = (REPOSITORY / "docs" / "extend.md").read_text()
    blocks = set(re.findall(r"```(?:python|toml)\n(.*?)```", page, re.DOTALL))
    files = [*PLUGIN.glob("*.py"), PLUGIN / "pyproject.toml"]
    assert len(files) == 7
    texts = {path.read_text() for path in files}
    assert blocks == texts
    assert max(len(text.splitlines()) for text in texts) < 80


@pytest.mark.slow
def test_a_video_is_asked_about(tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "ask_a_video.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    signs = [line.rsplit("(", 1)[1] for line in done.stdout.splitlines()]
    assert len(signs) > 5
    assert set(signs) <= {"right)", "wrong)"}
