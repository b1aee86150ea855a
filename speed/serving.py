"""What the server costs beside the library, and what it gains by sharing: latency, throughput, memory.

    python speed/serving.py [--model dollhouse-topa] [--clients 200] [--requests 2000] [--videos 8]

The server runs in a process of its own, on loopback, with dollhouse videos made on the spot; the library runs in this
one, a call at a time, its frames decoded once a video as the server's are. A tenth of the load are bad requests of
several kinds, which must get their own status; every other reply must be the library's choice for its own question, or
the run fails. Rows of the table:

    first, second     one question about a new video, and another about the same one
    added             the server's time for a question about known frames, less that of the library's own call
    ten together      ten questions about a new video at once, against ten calls of the library that share nothing
    load              all requests from all clients: throughput, median and 95th percentile of the latency, and the most
                      memory that the server held
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tideo.dollhouse.export import make
from tideo.evaluate.ask import ask
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.scoring import decide
from tideo.types import Frames, Sample, Video

OPTIONS = ("cooking soup", "watering the plants", "reading a book", "folding the laundry")
QUESTIONS = [
    f"What does the person do {when}?" for when in ("first", "last", "in the middle", "with her hands")
]
BAD: dict[str, tuple[Any, int]] = {
    "half a JSON": (b'{"model": "dollhouse', 400),
    "another model": ({"model": "gpt-4", "messages": [{"role": "user", "content": "?"}]}, 400),
    "no video": (None, 400),
    "no such file": ("file:none.mp4", 400),
    "not a video": ("data:video/mp4;base64,AAAA", 400),
}


@contextmanager
def server(model: str, folder: Path, port: int) -> Iterator[int]:
    """A server with that model and media folder; its process id."""
    command = [sys.executable, "-m", "tideo", "serve", "--model", model, "--media-dir", str(folder)]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                if post(port, None, path="/health")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


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


def peak_mb(pid: int) -> float:
    """The most memory that the process has held, by Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


class Library:
    """The same questions by the library, the frames of a video decoded once."""

    def __init__(self, model: VideoModel) -> None:
        self.model = model
        self._frames: dict[str, Frames | None] = {}

    def choice(self, path: str, question: str) -> int | None:
        video = Video(id=path, path=path)
        if path not in self._frames:
            self._frames[path] = self.model.look(video)
        sample = Sample(id="0", video=video, question=question, options=OPTIONS)
        answer = self.model.answer(video, [sample], seen=self._frames[path])[0]
        return decide(answer, reduction=self.model.settings.reduction).choice


def seconds(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dollhouse-topa")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        make(split="test", num=args.videos + 4, seed=0, out=Path(made))
        folder = Path(made) / "videos"
        paths = sorted(folder.glob("*.mp4"))
        library = Library(load_model(args.model))
        library.choice(str(paths[0]), QUESTIONS[0])  # loads what is loaded on use
        with server(args.model, folder, args.port) as pid:
            measure(args, pid, paths, library)


def measure(args: argparse.Namespace, pid: int, paths: Sequence[Path], library: Library) -> None:
    def asked(path: Path, question: str) -> float:
        status, reply, took_s = post(args.port, request(args.model, f"file:{path.name}", question))
        assert status == 200, reply
        return took_s

    asked(paths[0], QUESTIONS[0])
    first, second = asked(paths[1], QUESTIONS[0]), asked(paths[1], QUESTIONS[1])
    rows = [("first", f"{first:.3f} s", ""), ("second", f"{second:.3f} s", f"{first / second:.1f}x less")]

    ours, theirs = [], []
    for n in range(40):  # in turns
        question = f"{QUESTIONS[n % 4]} ({n})"
        theirs.append(seconds(lambda question=question: library.choice(str(paths[1]), question)))  # type: ignore[misc]
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

    rows += load(args, paths[4:], library)
    rows.append(("memory", f"{peak_mb(pid):.0f} MB", "the server's peak"))
    print(f"model {args.model}, {os.cpu_count()} cores")
    for name, value, note in rows:
        print(f"{name:14} {value:>14}  {note}")


def load(args: argparse.Namespace, paths: Sequence[Path], library: Library) -> list[tuple[str, str, str]]:
    """Rows about all requests from all clients, after a check of every reply."""
    rng = random.Random(0)
    expected = {(path, q): library.choice(str(path), q) for path in paths for q in QUESTIONS}
    jobs: list[tuple[Any, int, int | None]] = []
    for n in range(args.requests):
        if n % 10 == 0:
            body, status = rng.choice(list(BAD.values()))
            if body is None or isinstance(body, str):
                body = request(args.model, body or "", QUESTIONS[0])
            jobs.append((body, status, None))
            continue
        path, question = rng.choice(paths), rng.choice(QUESTIONS)
        whole = n % 50 == 1  # the file itself in the request
        url = f"file:{path.name}"
        if whole:
            url = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
        jobs.append((request(args.model, url, question), 200, expected[path, question]))

    def one(job: tuple[Any, int, int | None]) -> tuple[bool, float]:
        body, status, choice = job
        while True:
            found, reply, took_s = post(args.port, body)
            if found != 503:
                break
            time.sleep(0.5)  # the server is full and says so
        return found == status and (status != 200 or reply["tideo"]["choice"] == choice), took_s

    started_s = time.perf_counter()
    with ThreadPoolExecutor(args.clients) as pool:
        replies = list(pool.map(one, jobs))
    took_s = time.perf_counter() - started_s
    right = Counter(is_right for is_right, _ in replies)
    assert right[True] == len(jobs), f"{right[False]} of {len(jobs)} replies are lost or another's"
    latencies = statistics.quantiles((each_s for _, each_s in replies), n=100)
    one_by_one = seconds(lambda: [library.choice(str(paths[0]), QUESTIONS[n % 4]) for n in range(20)]) / 20
    return [
        ("load", f"{len(jobs) / took_s:.1f} / s", f"the library alone: {1 / one_by_one:.1f} / s"),
        (
            "latency",
            f"{latencies[49]:.2f} s",
            f"95th percentile {latencies[94]:.2f} s, of {args.clients} clients",
        ),
    ]


if __name__ == "__main__":
    main()
