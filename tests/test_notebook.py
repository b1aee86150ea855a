"""The notebook's cells run in IPython, from the first to the last, with a tiny model in place of the named one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from tiny_vlms import saved
from videos import encode

NOTEBOOK = REPOSITORY / "examples" / "ask_your_video.ipynb"
RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for source in json.load(sys.stdin):
    shell.run_cell(source).raise_error()
    if code := shell.user_ns.pop("_exit_code", 0):
        sys.exit(f"exit code {code} of {source}")
"""


def sources(kind: str) -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_a_notebook_is_published_without_results() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert notebook["nbformat"] == 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_the_notebook_runs_from_the_first_cell_to_the_last(tmp_path: Path) -> None:
    model = saved("llava", tmp_path / "model")
    encode(tmp_path / "my_video.mp4", num=40)
    first, *others = sources("code")
    assert first.startswith("%pip install")  # what it installs is what runs here
    named = 'MODEL, ARGS = "HuggingFaceTB/SmolVLM2-2.2B-Instruct", "dtype=auto"'
    assert others[0].startswith(named)
    others[0] = others[0].replace(named, f'MODEL, ARGS = "{model}", "image_size=28"')
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY / "src"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(others), cwd=tmp_path, env=env, capture_output=True,
        text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 2 questions; all of it is in eval/report.html" in done.stdout
    assert "Where does it take place? →" in done.stdout
    assert (tmp_path / "grid.png").is_file()
