"""The examples run as their docstrings say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


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


def test_the_plugin_adds_a_benchmark_and_a_model(installed: Path, tmp_path: Path) -> None:
    told = run("-m", "tideo", "list", "benchmarks", cwd=tmp_path, also=installed)
    assert "quiz                 Questions of one's own, a line each." in told.stdout
    data = str(EXAMPLES / "plugin" / "quiz.txt")
    args = [
        "eval",
        "quiz",
        "--data",
        data,
        "--videos",
        str(tmp_path),
        "--model",
        "longest",
        "--out",
        "out",
        "--permute",
    ]
    done = run("-m", "tideo", *args, cwd=tmp_path, also=installed)
    assert done.returncode == 0, done.stderr
    told = ("quiz: 50.0% of 2 questions", "quiz: 50.0%, the mean of 2 kinds", "50.0% right in all 3 orders")
    assert done.stdout.startswith("\n".join(told))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {kind: of["accuracy"] for kind, of in report["by_kind"].items()} == {"what": 0.0, "why": 1.0}


def test_a_video_is_asked_about(tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "ask_a_video.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    signs = [line.rsplit("(", 1)[1] for line in done.stdout.splitlines()]
    assert len(signs) > 5
    assert set(signs) <= {"right)", "wrong)"}
