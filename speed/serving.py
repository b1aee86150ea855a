"""What the server costs beside the library, and what it gains by sharing.

    python speed/serving.py [--model dollhouse-topa]

The server runs in a process of its own, on loopback, with dollhouse videos made on the spot; the library runs in this
one, a call at a time. Rows of the table:

    first, second     one question about a new video, and another about the same one: medians of four videos
    added             the server's time for a question about known frames, less that of the library's own call
    ten together      ten questions about a new video at once, against ten calls of the library that share nothing
                      but the loaded model

speed/serving_load.py has many clients at once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tideo.dollhouse.export import make
from tideo.evaluate.ask import ask
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.scoring import decide
from tideo.types import Answer, Frames, Sample, Video

OPTIONS = ("cooking soup", "watering the plants", "reading a book", "folding the laundry")
QUESTIONS = [
    f"What does the person do {when}?" for when in ("first", "last", "in the middle", "with her hands")
]


class Running:
    """A server with that model and media folder, from `with` on."""

    def __init__(self, model: str, folder: Path, port: int) -> None:
        command = [sys.executable, "-m", "tideo", "serve", "--model", model, "--media-dir", str(folder)]
        self._command, self._port, self._peak_mb = [*command, "--port", str(port)], port, 0.0

    def __enter__(self) -> Running:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                if post(self._port, None, path="/health")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def kill_and_start(self) -> None:
        self._peak_mb = self.peak_mb()
        self._process.kill()
        self._process.wait()
        self.__enter__()

    def peak_mb(self) -> float:
        """The most memory that it has held, before and after it was killed, by Linux."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return max(self._peak_mb, int(line.split()[1]) / 1024)


def post(port: int, body: Any, *, path: str = "/v1/chat/completions") -> tuple[int, Any, float]:
    """Status, object and seconds of a request; GET without a body."""
    started_s = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request("POST" if data else "GET", path, data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    reply = json.loads(response.read())
    connection.close()
    return response.status, reply, time.perf_counter() - started_s


def request(model: str, url: str, question: str, options: Sequence[str] = OPTIONS) -> dict[str, Any]:
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": question}]
    return {"model": model, "messages": [{"role": "user", "content": parts}], "options": list(options)}


class Library:
    """The same questions by the library, the frames of a video decoded once."""

    def __init__(self, model: VideoModel) -> None:
        self.model = model
        self._frames: dict[str, Frames | None] = {}

    def answer(self, path: str, question: str) -> Answer:
        video = Video(id=path, path=path)
        if path not in self._frames:
            self._frames[path] = self.model.look(video)
        sample = Sample(id="0", video=video, question=question, options=OPTIONS)
        answer = self.model.answer(video, [sample], seen=self._frames[path])[0]
        return decide(answer, reduction=self.model.settings.reduction)


def seconds(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dollhouse-topa")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        make(split="test", num=8, seed=0, out=Path(made))
        folder = Path(made) / "videos"
        paths = sorted(folder.glob("*.mp4"))
        library = Library(load_model(args.model))
        library.answer(str(paths[0]), QUESTIONS[0])  # loads what is loaded on use
        with Running(args.model, folder, args.port) as running:
            measure(args, running, paths, library)


def measure(args: argparse.Namespace, running: Running, paths: Sequence[Path], library: Library) -> None:
    def asked(path: Path, question: str) -> float:
        status, reply, took_s = post(args.port, request(args.model, f"file:{path.name}", question))
        assert status == 200, reply
        return took_s

    asked(paths[0], QUESTIONS[0])
    first = statistics.median(asked(path, QUESTIONS[0]) for path in paths[4:])
    second = statistics.median(asked(path, QUESTIONS[1]) for path in paths[4:])
    rows = [("first", f"{first:.3f} s", ""), ("second", f"{second:.3f} s", f"{first / second:.1f}x less")]

    ours, theirs = [], []
    for n in range(40):  # in turns
        question = f"{QUESTIONS[n % 4]} ({n})"
        theirs.append(seconds(lambda question=question: library.answer(str(paths[1]), question)))  # type: ignore[misc]
        ours.append(post(args.port, request(args.model, f"file:{paths[1].name}", question))[2])
    added_ms = 1000 * (statistics.median(ours) - statistics.median(theirs))
    rows.append(("added", f"{added_ms:.1f} ms", f"to {1000 * statistics.median(theirs):.0f} ms"))

    ten = [f"{QUESTIONS[n % 4]} ({n})" for n in range(10)]
    with ThreadPoolExecutor(10) as pool:
        together = seconds(lambda: list(pool.map(lambda question: asked(paths[2], question), ten)))
    alone = seconds(
        lambda: [ask(paths[3], question=question, options=OPTIONS, model=library.model) for question in ten]
    )
    rows.append(("ten together", f"{together:.2f} s", f"{alone / together:.1f}x less than {alone:.2f} s"))

    rows.append(("memory", f"{running.peak_mb():.0f} MB", "the server's peak"))
    print(f"model {args.model}, {os.cpu_count()} cores")
    for name, value, note in rows:
        print(f"{name:14} {value:>14}  {note}")


if __name__ == "__main__":
    main()
