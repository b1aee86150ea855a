"""Cross-modal projection, ours against the published way: CPU time, extra memory, and the same results.

    python speed/projection.py --captions 1000000 --queries 10 320

The published way is softmax(100 · q · Mᵀ) · M with the whole matrix (llama/model.py of TOPA's code). All
methods run in turn in one process, on one thread, and the least CPU time (user + system) of the repeats
counts; extra memory is the peak of resident memory over what was there before, each in a process of its
own. The memory is random unit rows in a cone, like CLIP's; it lies in a temporary file that each process
maps. 1,000,000 captions need 6 GB of disk, and 4 GB of RAM beside the page cache for the published way.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tideo.encoders.memory import Memory, project
from tideo.types import Features

DIM = 768
ENCODER = "random"
Project = Callable[[Features, Memory], np.ndarray]


def published(features: Features, memory: Memory) -> np.ndarray:
    sim_QM = torch.from_numpy(features.values_TD) @ memory.values_MD.T
    sim_QM = (sim_QM * 100).softmax(dim=-1)
    out_QD = sim_QM @ memory.values_MD
    return (out_QD / out_QD.norm(dim=-1, keepdim=True)).numpy()


def attention(features: Features, memory: Memory) -> np.ndarray:
    """torch's fused attention with K = V = M, the shortest exact way without the matrix."""
    rows = memory.values_MD[None, None]
    query = torch.from_numpy(features.values_TD)[None, None]
    out = torch.nn.functional.scaled_dot_product_attention(query, rows, rows, scale=100.0)[0, 0]
    return torch.nn.functional.normalize(out, dim=-1).numpy()


def ours(features: Features, memory: Memory) -> np.ndarray:
    return project(features, memory).values_TD


def nearest(features: Features, memory: Memory) -> np.ndarray:
    return project(features, memory, top_k=256).values_TD


# name → the function, the dtype of its memory, and the largest 1 - cosine to the published result (None:
# reported only)
METHODS: dict[str, tuple[Project, str, float | None]] = {
    "published": (published, "float32", 0.0),
    "torch attention": (attention, "float32", 1e-6),
    "ours, float32": (ours, "float32", 1e-6),
    "ours, float16": (ours, "float16", 1e-6),
    "ours, bfloat16": (ours, "bfloat16", 1e-4),
    "ours, top 256": (nearest, "float32", None),
}


def cone(num: int, *, seed: int) -> torch.Tensor:
    """Unit rows with a mean cosine of 0.5 to one another."""
    rng = torch.Generator().manual_seed(seed)
    shared = torch.nn.functional.normalize(
        torch.randn(DIM, generator=torch.Generator().manual_seed(1)), dim=0
    )
    rows = torch.empty(num, DIM)
    for part in rows.split(50_000):
        part.copy_(torch.nn.functional.normalize(torch.randn(part.shape, generator=rng), dim=-1))
        part.copy_(torch.nn.functional.normalize(part + shared, dim=-1))
    return rows


def make(directory: Path, *, num_captions: int, queries: list[int]) -> None:
    """The memory in each dtype, and queries that lean to a caption each and off the captions' cone."""
    captions = cone(num_captions, seed=0)
    leaning = captions[
        torch.randint(num_captions, (max(queries),), generator=torch.Generator().manual_seed(3))
    ]
    own = torch.randn(max(queries), DIM, generator=torch.Generator().manual_seed(4))
    own = torch.nn.functional.normalize(own, dim=-1)
    np.save(directory / "queries.npy", torch.nn.functional.normalize(own + 0.5 * leaning, dim=-1).numpy())
    for dtype in sorted({dtype for _, dtype, _ in METHODS.values()}):
        path = directory / f"{dtype}.safetensors"
        Memory(values_MD=captions.to(getattr(torch, dtype)), encoder=ENCODER).save(path)


def load(directory: Path, *, num_queries: int) -> Features:
    values = np.load(directory / "queries.npy")[:num_queries]
    return Features(values_TD=values, pts_s_T=None, modality="image", encoder=ENCODER)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def extra_mb(method: str, directory: Path, *, num_queries: int) -> float:
    """Peak resident memory of one projection beside the memory and the queries, in this process."""
    run, dtype, _ = METHODS[method]
    memory, features = (
        Memory.load(directory / f"{dtype}.safetensors"),
        load(directory, num_queries=num_queries),
    )
    run(features, Memory(values_MD=memory.values_MD[:2048].clone(), encoder=ENCODER))  # loads the libraries
    for part in memory.values_MD.split(50_000):
        part.sum()  # brings the mapped file in
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status_mb("VmRSS")
    run(features, memory)
    return status_mb("VmHWM") - before


def measure(directory: Path, *, num_queries: int, repeats: int) -> list[dict[str, float | str]]:
    memories = {dtype: Memory.load(directory / f"{dtype}.safetensors") for _, dtype, _ in METHODS.values()}
    features = load(directory, num_queries=num_queries)
    seconds = dict.fromkeys(METHODS, float("inf"))
    results: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, (run, dtype, _) in METHODS.items():
            start = cpu_s()
            results[name] = run(features, memories[dtype])
            seconds[name] = min(seconds[name], cpu_s() - start)
    rows: list[dict[str, float | str]] = []
    for name, (_, _, limit) in METHODS.items():
        cosines = (results[name].astype(np.float64) * results["published"]).sum(axis=1)
        error = abs(1 - cosines).max() if name != "published" else 0.0
        if limit is not None and error > limit:
            raise SystemExit(f"{name} with {num_queries} queries is off by {error:.1e}, more than {limit}")
        command = [sys.executable, __file__, "--extra", name, "--directory", str(directory)]
        extra = subprocess.run(
            [*command, "--queries", str(num_queries)], check=True, capture_output=True, text=True
        )
        rows.append(
            {
                "queries": num_queries,
                "method": name,
                "cpu_s": round(seconds[name], 3),
                "speedup": round(seconds["published"] / seconds[name], 2),
                "extra_mb": round(json.loads(extra.stdout)),
                "one_minus_cosine": float(f"{error:.1e}"),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=int, default=200_000)
    parser.add_argument("--queries", type=int, nargs="+", default=[10, 320])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--extra", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.extra:
        print(json.dumps(extra_mb(args.extra, args.directory, num_queries=args.queries[0])))
        return
    with tempfile.TemporaryDirectory(dir=args.directory) as made:
        make(Path(made), num_captions=args.captions, queries=args.queries)
        print(
            f"{args.captions} × {DIM}, torch {torch.__version__}, {torch.cpu.get_capabilities()['cpu_name']}"
        )
        print("| queries | method | CPU s | × published | extra MB | 1 − cosine |\n|---|---|---|---|---|---|")
        for num_queries in args.queries:
            for row in measure(Path(made), num_queries=num_queries, repeats=args.repeats):
                print(f"| {' | '.join(str(value) for value in row.values())} |", flush=True)


if __name__ == "__main__":
    main()
