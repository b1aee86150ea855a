"""What all tests share: no network, no colours, the command line in this process and in one of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"

# Before any library reads them: a test that needs a hub would pass here and fail elsewhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"

# A shell's job in the background ignores Ctrl-C, and the commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("tideo", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("tideo")

Tideo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tideo() -> Tideo:
    """Run `tideo ARGS...` in this process; returns its exit code and what it wrote.

    A process of its own spends seconds on imports. An exception that the command line does not answer with
    an exit code is raised here; `tideo_process` has the exit code and the traceback.
    """

    def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        from tideo.cli import run as run_command

        out, err = io.StringIO(), io.StringIO()
        with _as_in_a_process(out, err, cwd=cwd):
            code = run_command(args)
        return subprocess.CompletedProcess(["tideo", *args], code, out.getvalue(), err.getvalue())

    return run


@contextlib.contextmanager
def _as_in_a_process(out: io.StringIO, err: io.StringIO, *, cwd: Path | None) -> Iterator[None]:
    """Streams, logging, warnings and environment as a new process has them; all are restored."""
    root, environment = logging.getLogger(), dict(os.environ)
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []  # pytest's own, with which logging.basicConfig would do nothing
    os.environ |= {"NO_COLOR": "1", "COLUMNS": "100"}
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.resetwarnings()
        for ignored in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", ignored)  # as Python does
        warnings.showwarning = lambda *warning: err.write(warnings.formatwarning(*warning[:4]))
        _log_to(err)
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            os.environ.clear()
            os.environ |= environment
    _log_to(sys.stderr)


def _log_to(stream: io.TextIOBase) -> None:
    """Libraries' loggers keep the standard error of the time of their import."""
    for logger in logging.root.manager.loggerDict.values():
        for handler in getattr(logger, "handlers", ()):
            if type(handler) is logging.StreamHandler:
                handler.setStream(stream)


@pytest.fixture(scope="session")
def tideo_process() -> Tideo:
    """As `tideo`, in a process with these environment variables: where a process is the point."""

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


@pytest.fixture(params=["standin:1", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device that is no CPU: of the stand-in for a GPU, and of a real one where `-m gpu` asks for it."""
    with _device(request.param):
        yield request.param


@contextlib.contextmanager
def _device(name: str) -> Iterator[None]:
    import torch

    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            pytest.skip("torch finds no CUDA device")
        yield
        return
    import accelerator

    with accelerator.devices(count=2):
        yield
