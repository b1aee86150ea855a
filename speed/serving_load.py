"""Many clients at once, a server that is killed in the middle, and what each of them gets.

    python speed/serving_load.py [--model dollhouse-topa] [--clients 200] [--requests 2000] [--videos 8]

A tenth of the requests are bad, of several kinds, and must get their own status; a fiftieth bring their video with
them. Every other reply must be the library's for its own question: its choice, and its options' log-likelihoods, by
which no two questions agree. When half of the requests are answered the server is killed (SIGKILL) and started again
on the same port; clients try again for as long as they find nobody or the server says that it is full. The run fails
if a request is lost or has a wrong reply. The library is called one question at a time, with frames decoded once a
video, before the server starts.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import QUESTIONS, Library, Running, post, request, seconds
from tideo.dollhouse.export import make
from tideo.models.load import load_model
from tideo.types import Answer

# What a bad request holds: a whole body, or the URL of a video; and the status that it must get.
BAD: dict[str, tuple[Any, int]] = {
    "half a JSON": (b'{"model": "dollhouse', 400),
    "no message": ({"model": "dollhouse-topa", "messages": []}, 400),
    "another model": ("another model", 404),
    "no such file": ("file:none.mp4", 400),
    "a path that leads out": ("file:../../etc/passwd", 400),
    "not a video": ("data:video/mp4;base64,AAAA", 400),
    "no base64": ("data:video/mp4;base64,$$$$", 400),
    "another host": ("http://127.0.0.1:1/v.mp4", 400),
}
TOLERANCE = 1e-3  # of log-likelihoods: batches of other sizes sum in another order


@dataclass(frozen=True, kw_only=True)
class Job:
    body: Any
    status: int
    answer: Answer | None


def jobs_of(args: argparse.Namespace, paths: Sequence[Path], library: Library) -> list[Job]:
    rng = random.Random(0)
    answers = {(path, q): library.answer(str(path), q) for path in paths for q in QUESTIONS}
    jobs = []
    for n in range(args.requests):
        path, question = rng.choice(paths), rng.choice(QUESTIONS)
        if n % 10 == 0:
            what, status = rng.choice(list(BAD.values()))
            body = what
            if isinstance(what, str):
                model, url = (what, f"file:{path.name}") if status == 404 else (args.model, what)
                body = request(model, url, question)
            jobs.append(Job(body=body, status=status, answer=None))
            continue
        url = f"file:{path.name}"
        if n % 50 == 1:
            url = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
        jobs.append(Job(body=request(args.model, url, question), status=200, answer=answers[path, question]))
    return jobs


def is_right(job: Job, status: int, reply: Any) -> bool:
    if status != job.status or job.answer is None:
        return status == job.status and "error" in reply
    ours, answer = reply["tideo"], job.answer
    means = [total / num for total, num in zip(answer.loglikelihoods, answer.num_tokens, strict=True)]
    near = all(abs(a - b) < TOLERANCE for a, b in zip(ours["loglikelihoods"], means, strict=True))
    return near and ours["choice"] == answer.choice


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="dollhouse-topa")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--port", type=int, default=8766)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        make(split="test", num=args.videos, seed=0, out=Path(made))
        folder = Path(made) / "videos"
        paths = sorted(folder.glob("*.mp4"))
        library = Library(load_model(args.model))
        jobs = jobs_of(args, paths, library)
        alone = [
            seconds(lambda n=n: library.answer(str(paths[0]), QUESTIONS[n % 4]))  # type: ignore[misc]
            for n in range(40)
        ]
        with Running(args.model, folder, args.port) as running:
            measure(args, jobs, running, alone)


def measure(args: argparse.Namespace, jobs: Sequence[Job], running: Running, alone: Sequence[float]) -> None:
    retries: Counter[str] = Counter()
    half = threading.Semaphore(0)

    def one(job: Job) -> tuple[bool, float]:
        started_s = time.perf_counter()
        while True:
            try:
                status, reply, _ = post(args.port, job.body)
            except (OSError, http.client.HTTPException):
                retries["nobody there"] += 1
            else:
                if status != 503:
                    break
                retries["full"] += 1
            time.sleep(0.5)
        half.release()
        return is_right(job, status, reply), time.perf_counter() - started_s

    started_s = time.perf_counter()
    with ThreadPoolExecutor(args.clients) as pool:
        replies = [pool.submit(one, job) for job in jobs]
        for _ in range(len(jobs) // 2):
            half.acquire()
        away_s = seconds(running.kill_and_start)
    took_s = time.perf_counter() - started_s
    right = Counter(reply.result()[0] for reply in replies)
    cuts = statistics.quantiles((reply.result()[1] for reply in replies), n=20)
    of_library = statistics.quantiles(alone, n=20)
    rate = len(jobs) / (took_s - away_s)
    print(f"model {args.model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    for name, value in {
        "replies": f"{right[True]} right of {len(jobs)}, {right[False]} wrong or lost, {args.clients} clients",
        "killed": f"once, away for {away_s:.1f} s; tried again: {dict(retries)}",
        "throughput": f"{rate:.1f} / s while it ran, the library alone {1 / statistics.mean(alone):.1f} / s",
        "latency": f"median {cuts[9]:.2f} s, 95th percentile {cuts[18]:.2f} s, of all {args.clients} at once",
        "of the library": f"median {of_library[9]:.3f} s, 95th percentile {of_library[18]:.3f} s, one at a time",
        "memory": f"{running.peak_mb():.0f} MB, the most that a server held",
    }.items():
        print(f"{name:14} {value}")
    assert right[False] == 0


if __name__ == "__main__":
    main()
