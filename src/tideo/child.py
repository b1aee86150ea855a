"""A function in a process of its own, which may crash, hang or eat memory without harm to this one.

Files from strangers can end a decoder with a segmentation fault. The process is started anew after each such end. It
ends with its parent, and what it left in its temporary folder is removed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

LIMIT_S = 1500.0  # of one call
MEMORY_SHARE = 4  # a child may use the machine's memory divided by this, but at least LEAST_MEMORY
LEAST_MEMORY = 4 << 30


class ChildDied(RuntimeError):
    """The process ended, or was ended, during a call. The message says how."""


class Child:
    """`work` in a process of its own, which the first call starts.

    `work`, what it takes and what it returns must be picklable. A call returns the pickled result, for callers that
    only pass it on; what `work` raises is raised here. Raises ChildDied if the process ends, or takes `limit_s`.
    """

    def __init__(self, work: Callable[[Any], Any], *, limit_s: float = LIMIT_S) -> None:
        self.work, self.limit_s = work, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""

    def __call__(self, unit: Any) -> bytes:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, pickle.dumps(unit))
            if not select.select([process.stdout], [], [], self.limit_s)[0]:
                raise ChildDied(f"its process gave no result within {self.limit_s:g} s and was ended")
            good, reply = _exactly(process.stdout, 1) == b"+", _received(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            code = process.wait()
            raise ChildDied(f"its process ended with {_how(code)}") from error
        except BaseException:
            self.close()
            raise
        finally:
            if process.poll() is not None:
                self.close()
        if not good:
            raise pickle.loads(reply)
        return reply

    def close(self) -> None:
        """End the process, and remove its temporary files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):  # what was not yet sent has no receiver
                    assert pipe is not None
                    pipe.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._folder = tempfile.mkdtemp(prefix="tideo-")
            env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": self._folder}
            # A module's name, not a fork: a fork of a process with threads may hang.
            command = [sys.executable, "-m", __name__, self._folder]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
            assert self._process.stdin is not None
            _send(self._process.stdin, pickle.dumps(self.work))
        return self._process

    def __del__(self) -> None:
        self.close()


def _how(code: int) -> str:
    try:
        return f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(len(message).to_bytes(8, "little"))
    pipe.write(message)
    pipe.flush()


def _received(pipe: IO[bytes]) -> bytes:
    """The next message. Raises EOFError where the other side has ended."""
    size = int.from_bytes(_exactly(pipe, 8), "little")
    return _exactly(pipe, size)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


# --- in the child ----------------------------------------------------------------------------------


def _serve(folder: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent decides
    _limit_memory()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(messages, folder), daemon=True).start()
    work = pickle.loads(messages.get())
    while True:
        try:
            sign, reply = b"+", pickle.dumps(work(pickle.loads(messages.get())))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised in the parent
            sign, reply = b"-", _pickled(error)
        replies.write(sign)
        _send(replies, reply)


def _listen(messages: SimpleQueue[bytes], folder: str) -> None:
    """Take what the parent sends, and end this process as soon as the parent has ended, in the middle of work too."""
    try:
        while True:
            messages.put(_received(sys.stdin.buffer))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a parent that was killed cannot
        os._exit(0)


def _pickled(error: Exception) -> bytes:
    """The error, or its text where its own class cannot be rebuilt."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # noqa: BLE001 - classes of others fail here in many ways
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data


def _limit_memory() -> None:
    """Let a file that asks for too much memory fail here, and the system choose this process before its parent."""
    import resource

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = max(LEAST_MEMORY, memory // MEMORY_SHARE)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most < 0 else min(limit, most), most))
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    _serve(sys.argv[1])
