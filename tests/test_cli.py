"""The command line: exit codes, one-line errors, what goes to which stream; in a process where that is the point."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError

from conftest import REPOSITORY, Tideo
from tideo import registry
from tideo.types import UserError, VideoError

COMMANDS = (
    "ask",
    "demo",
    "doctor",
    "dollhouse",
    "encode",
    "eval",
    "export",
    "finetune",
    "frames",
    "fuse",
    "grid",
    "import",
    "list",
    "prealign",
    "push",
    "report",
    "search",
    "serve",
    "textvid",
    "train",
)


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    surrounding = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), **env}
    return subprocess.run(
        [sys.executable, "-c", code], env=surrounding, capture_output=True, text=True, timeout=300
    )


def test_version(tideo_process: Tideo) -> None:
    done = tideo_process("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"tideo \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_help_names_every_command(tideo: Tideo, args: list[str]) -> None:
    done = tideo(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert tuple(sorted(re.findall(r"^│ ([a-z]+) ", done.stdout, re.MULTILINE))) == COMMANDS


def test_every_command_is_in_the_docs() -> None:
    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^## `tideo ([a-z]+)", text, re.MULTILINE))
    assert documented == set(COMMANDS)


@pytest.mark.slow
def test_help_is_quick() -> None:
    # What takes time is what gets imported; a clock would measure the machine.
    code = """
import sys
from tideo.cli import run
run(["ask", "--help"])
slow = {"torch", "transformers", "peft", "av", "matplotlib", "PIL"} & set(sys.modules)
print(*sorted(slow), file=sys.stderr)
"""
    assert run_python(code).stderr.strip() == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nope"], r"No such command 'nope'\. \(see tideo --help\)"),
        (["dollhouse"], r"Missing command\. \(see tideo dollhouse --help\)"),
        (["ask"], r"Missing argument 'VIDEO'\. \(see tideo ask --help\)"),
        (["ask", "v.mp4", "Why?", "--start", "nan"], r"'--start': nan is not a time in seconds"),
        (["ask", "v.mp4", "Why?", "--start", "-1"], r"'--start': -1 is not a time in seconds"),
        (["frames", "v.mp4", "--num", "0", "--out", "x"], r"'--num'.*greater than or equal to 1"),
        (["frames", "v.mp4", "--num", "3", "--out", __file__], r"'--out'.*is a file"),
        (["dollhouse", "make", "--num", "3", "--out", "x"], r"Missing option '--split'"),
        (["list", "modles"], r"'modles' is not one of 'models', 'benchmarks', 'samplers', 'recipes'"),
        (["train", "no_such_recipe"], r"unknown recipe 'no_such_recipe'"),
        (["prealign", "no\nsuch"], r"unknown recipe 'no\\nsuch'"),
        (["eval", "dollhouse", "--data", "/no/such", "--videos", "/", "--model", "blind", "--out", "x"],
         r"'--data'.*/no/such.* does not exist"),
        (["report", "/no/such/run"], r"/no/such/run.* does not exist"),
    ],
)  # fmt: skip
def test_wrong_input_is_reported_in_one_line(
    tideo: Tideo, args: list[str], message: str, tmp_path: Path
) -> None:
    done = tideo(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"tideo: .*{message}.*\n", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def list_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`tideo list` calls a function that raises this."""

    def describe(kind: str) -> dict[str, str]:
        raise error

    monkeypatch.setattr(registry, "describe", describe)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a name\nof two lines"), 2, "tideo: a name of two lines\n"),
        (VideoError("v.mp4: empty"), 2, "tideo: v.mp4: empty\n"),
        (KeyboardInterrupt(), 130, "tideo: interrupted\n"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "big.bin"),
            2,
            "tideo: big.bin: No space left on device; free some space and run this again\n",
        ),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            2,
            "tideo: the disk is full in the middle of writing weights; free some space and run this again\n",
        ),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, message: str, tideo: Tideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_raises(monkeypatch, error)
    done = tideo("list", "models")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


@pytest.mark.parametrize("error", [ValueError("ours"), OSError("ours"), ModuleNotFoundError("ours")])
def test_a_fault_of_ours_is_not_caught(
    error: Exception, tideo: Tideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_raises(monkeypatch, error)
    with pytest.raises(type(error), match=r"^ours$"):
        tideo("list", "models")


def with_list_doing(body: str) -> subprocess.CompletedProcess[str]:
    """A process of `tideo list models` where the function behind the command does something else."""
    code = f"""
from tideo import registry
from tideo.types import UserError
def describe(kind):
    {body}
registry.describe = describe
from tideo.cli import main
main(["list", "models"])
"""
    return run_python(code)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [("return {}", 0, ""), ("raise UserError('wrong input')", 2, "tideo: wrong input\n")],
)
def test_a_process_ends_with_the_exit_code(body: str, code: int, message: str) -> None:
    done = with_list_doing(body)
    assert (done.returncode, done.stderr) == (code, message)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    done = with_list_doing("raise ValueError('ours')")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ValueError: ours\n")


@pytest.mark.parametrize("num", [pytest.param(100_000, marks=pytest.mark.slow), 1])
def test_a_reader_that_leaves_is_no_fault(num: int) -> None:
    # Many names are more than a buffer holds, so the write itself fails; of one, only the flush does.
    code = f"""
from tideo import registry
registry.describe = lambda kind: {{f"m{{i}}": "" for i in range({num})}}
from tideo.cli import main
main(["list", "models"])
"""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "PYTHONUNBUFFERED": ""}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_is_one_line() -> None:
    code = """
import time
from tideo import registry
def describe(kind):
    print("started", flush=True)
    time.sleep(60)
registry.describe = describe
from tideo.cli import main
main(["list", "models"])
"""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (130, "tideo: interrupted\n")
    assert time.monotonic() - begun < 30


@pytest.fixture
def brightening_mp4(tmp_path: Path) -> Path:
    """Ten grey frames of 64 × 48 in one second, each brighter than the one before."""
    path = tmp_path / "brightening.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(10):
            picture = np.full((48, 64, 3), 20 * k, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_frames_writes_one_picture_each(tideo: Tideo, brightening_mp4: Path, tmp_path: Path) -> None:
    done = tideo("frames", str(brightening_mp4), "--num", "5", "--out", str(tmp_path / "new" / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert sorted((tmp_path / "new" / "out").iterdir()) == paths
    times_s = [float(path.stem.removesuffix("s").partition("_")[2]) for path in paths]
    shades = [np.asarray(Image.open(path)) for path in paths]
    assert {picture.shape for picture in shades} == {(48, 64, 3)}
    for time_s, picture in zip(times_s, shades, strict=True):
        assert abs(picture.mean() - 200 * time_s) < 4  # frame k is of 20 k at k / 10 s
    assert times_s == sorted(set(times_s))
    assert len(times_s) == 5


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["no_such.mp4", "--num", "3"], "no_such.mp4"),
        (["brightening.mp4", "--num", "3", "--sampler", "midle"], "midle"),
    ],
)
@pytest.mark.usefixtures("brightening_mp4")
def test_frames_reports_wrong_input(tideo: Tideo, args: list[str], message: str, tmp_path: Path) -> None:
    done = tideo("frames", *args, "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"tideo: .*{message}.*\n", done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


def test_doctor_names_what_the_machine_has(tideo: Tideo) -> None:
    done = tideo("doctor")
    lines = {tuple(line.split()[1:3]): line for line in done.stdout.splitlines()}
    for codec in ("h264", "hevc", "av1", "vp9", "libx264"):
        assert lines["codec", codec].startswith("ok")
    assert lines["device", "torch"].startswith("ok")
    assert "torch" in lines["version", "torch"]
    bad = [line for line in done.stdout.splitlines() if line.startswith("NO")]
    assert done.returncode == (3 if bad else 0)
    assert (f"{len(bad)} of" in done.stderr) == bool(bad)


def test_doctor_reports_a_cache_that_cannot_be_written(
    tideo: Tideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file"))
    done = tideo("doctor")
    assert done.returncode == 3
    assert re.search(r"^NO  cache .*cannot be written \(Not a directory\): set HF_HOME", done.stdout, re.M)


def test_list_names_what_the_registry_has(tideo: Tideo) -> None:
    done = tideo("list", "recipes")
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [*registry.targets("recipes")]
