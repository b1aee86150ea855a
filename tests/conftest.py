"""What all tests share: no network, no colours, and the real command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"

# Before any library reads them: a test that needs a hub would pass here and fail elsewhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"

settings.register_profile("tideo", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("tideo")

Tideo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tideo() -> Tideo:
    """Run `tideo ARGS...` in a process; returns its exit code and what it wrote."""

    def run(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        surrounding = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **env}
        surrounding["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(REPOSITORY / "src"), env.get("PYTHONPATH", "")])
        )
        return subprocess.run(
            [sys.executable, "-m", "tideo", *args],
            cwd=cwd,
            env=surrounding,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of material that lies beside some checkouts; the test skips where it does not."""
    if not SHARED.is_dir():
        pytest.skip("no folder `shared` beside this checkout")
    return SHARED
