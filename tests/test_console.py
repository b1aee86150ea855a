"""The process of a command: its streams may be closed or full, its locale bare, and a signal ends it at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import REPOSITORY, Tideo


def started(*args: str, cwd: Path | None = None, code: str | None = None) -> subprocess.Popen[str]:
    """`tideo ARGS...` (or a program) in a process group of its own, which is started now."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *(["-c", code] if code else ["-m", "tideo"]), *args],
        cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def left(group: int) -> list[str]:
    """The processes of a group that still run a moment after its first one has ended."""
    found: list[str] = []
    for _ in range(50):
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, fields = stat.read_text().rpartition(")")
            except OSError:  # it has just ended
                continue
            state, _, of_group = fields.split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(name)
        if not found:
            break
        time.sleep(0.1)
    return found


def shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    surrounding = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "NO_COLOR": "1", **env}
    command = line.replace("tideo", f"{sys.executable} -m tideo", 1)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=surrounding,
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("tideo list samplers | head -1", 0, "aks", ""),
        pytest.param("tideo --help | head -1", 0, "", "", marks=pytest.mark.slow),
        pytest.param("tideo list samplers >&-", 0, "", "", marks=pytest.mark.slow),
        pytest.param("tideo list samplers 2>&-", 0, "aks", "", marks=pytest.mark.slow),
        pytest.param("tideo list nothing 2>&1 >/dev/null | true", 2, "", "", marks=pytest.mark.slow),
        ("tideo list samplers >/dev/full", 2, "", "tideo: output: No space left on device; free some space"),
    ],
)
def test_a_stream_that_is_closed_or_full(line: str, code: int, out: str, err: str) -> None:
    done = shell(line)
    assert done.returncode == code
    assert done.stdout.strip().startswith(out)
    assert done.stderr.startswith(err)
    assert len(done.stderr.splitlines()) == bool(err)


def test_a_lost_reader_does_not_end_the_work(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tideo import registry
def describe(kind):
    for k in range(100_000):
        print(k, flush=k % 100 == 0)
    Path({str(tmp_path / "done")!r}).touch()
    return {{}}
registry.describe = describe
from tideo.cli import main
main(["list", "samplers"])
"""
    with started(code=code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.wait(60) == 0
    assert (tmp_path / "done").exists()


def test_no_character_is_too_much_for_a_stream(tideo_process: Tideo) -> None:
    done = tideo_process("train", "Größe", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(r"tideo: unknown recipe 'Gr\xf6\xdfe'")


@pytest.mark.parametrize(
    "env", [pytest.param({}, marks=pytest.mark.slow), {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_bare_locale_reads_any_text(tideo_process: Tideo, env: dict[str, str]) -> None:
    done = tideo_process("train", "Größe ☃", LC_ALL="C", **env)
    assert done.returncode == 2
    assert done.stderr.startswith(
        ("tideo: unknown recipe 'Größe ☃'", r"tideo: unknown recipe 'Gr\xf6\xdfe \u2603'")
    )


@pytest.mark.parametrize(
    ("arg", "message"), [("a\0b", "holds a NUL character"), ("caf\udce9", r"caf\udce9' is not text in UTF-8")]
)
def test_what_is_no_text_is_refused(tideo: Tideo, arg: str, message: str) -> None:
    for args in (["ask", "v.mp4", arg], ["ask", arg, "why?"], ["train", "tiny_lm", "--set", f"seed={arg}"]):
        done = tideo(*args)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


# --- signals ---------------------------------------------------------------------------------------

SWALLOWED = {
    "in a destructor": ("INT", "class Ends:\n        def __del__(self): time.sleep(60)\n    Ends()"),
    "by a bare except": ("TERM", "try: time.sleep(60)\n    except BaseException: pass"),
    "as another error": ("INT", "try: time.sleep(60)\n    except BaseException: raise ImportError('numpy')"),
    "in a pool": ("TERM", "with parallel.threads(1) as pool: pool.submit(time.sleep, 60).result()"),
}


@pytest.mark.parametrize(("number", "body"), SWALLOWED.values(), ids=SWALLOWED)
def test_a_signal_that_a_library_swallows_ends_the_command(number: str, body: str) -> None:
    code, word = {"INT": (130, "interrupted"), "TERM": (143, "terminated")}[number]
    program = f"""
import time
from tideo import console, parallel, registry
console.AGAIN_S = 0.3
def describe(kind):
    print("started", flush=True)
    {body}
    time.sleep(60)
    return {{}}
registry.describe = describe
from tideo.cli import main
main(["list", "models"])
"""
    with started(code=program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        begun = time.monotonic()
        process.send_signal(getattr(signal, f"SIG{number}"))
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, f"tideo: {word}\n")
    assert time.monotonic() - begun < 10


def test_a_signal_before_the_imports(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom tideo.cli import main\nmain(['--help'])"
    with started(code=code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "tideo: interrupted\n")


def test_a_signal_after_the_work_changes_no_exit_code() -> None:
    code = """
import os, time
from tideo import console
class Slow:
    def __del__(self, write=os.write, sleep=time.sleep):
        write(1, b"ending")
        sleep(1)
console.catch_signals()
console.slow = Slow()
console.leave(0)
"""
    with started(code=code) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == "ending"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_processes_end_with_the_command(tmp_path: Path) -> None:
    make = ["dollhouse", "make", "--split", "test", "--num", "60", "--out", "out"]
    with started(*make, cwd=tmp_path) as process:
        while not list(tmp_path.glob("out/videos/.*.tmp")):
            time.sleep(0.05)
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "tideo: interrupted\n")
    assert time.monotonic() - begun < 10
    assert left(process.pid) == []
    assert list(tmp_path.glob("out/videos/.*")) == []


LONG = {
    "make": "dollhouse make --split test --num 60 --out made",
    "eval": "eval dollhouse --data ask --videos ask/videos --model dollhouse-topa --out eval",
    "encode": "encode ask/videos --encoder dollhouse-clip --num-frames 64 --out encoded",
    "prealign": "prealign dollhouse_topa --set num_tideos=500 --out prealigned --resume",
    "train": "train tiny_lm --out trained --resume",
    "demo": "demo --out demo",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_a_signal_at_any_moment(name: str, tideo_process: Tideo, tmp_path: Path) -> None:
    make = ["dollhouse", "make", "--split", "test", "--num", "2", "--out", "ask"]
    assert tideo_process(*make, cwd=tmp_path).returncode == 0
    rng = random.Random(name)
    for _ in range(8):
        number, code, word = rng.choice(
            [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
        )
        with started(*LONG[name].split(), cwd=tmp_path) as process:
            time.sleep(rng.uniform(1, 12))  # before, Python itself may still be starting
            if process.poll() is not None:
                continue
            rng.choice([os.kill, os.killpg])(process.pid, number)
            begun = time.monotonic()
            out, err = process.communicate(timeout=60)
        if process.returncode == 0:  # it had just ended
            continue
        assert (process.returncode, out) == (code, "")
        assert err.endswith(f"tideo: {word}\n")
        assert "Traceback" not in err
        assert time.monotonic() - begun < 10
        assert left(process.pid) == []
