"""The sampler court: which frames of a long video to look at, decided on dollhouse days whose evidence is known.

    OMP_NUM_THREADS=1 python -m tideo.lab.sampler_court --out runs/court --minutes 1 10 --budgets 16 --days 2 --jobs 2

For each length, number of frames and sampler: the share of questions with a frame in the evidence, the accuracy of the
text-only and of the grid model on the same frames, and what choosing and decoding took. The sampler `oracle` takes its
frames from the evidence. Without --minutes and --budgets it is the whole matrix, 10 s to 3 h, 8 to 32 frames.

OUT/units has a small file for each cell, and a cell with a file is not computed again: a killed court continues.
Writes OUT/table.md, OUT/table.json and OUT/plot.svg.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tideo.benchmarks.dollhouse import dollhouse
from tideo.dollhouse.day import LEAST_S
from tideo.dollhouse.export import make
from tideo.encoders.pools import Pools
from tideo.encoders.relevance import Chooser
from tideo.evaluate.grounding import in_evidence
from tideo.lab.court_table import Cell, page, plot, table
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.models.selecting import stem
from tideo.parallel import in_processes
from tideo.scoring import decide
from tideo.store.files import atomic_write_text, key_of
from tideo.types import Frames, Sample, UserError
from tideo.video.pool import PoolSettings
from tideo.video.samplers import sample_frames

ENCODER = "dollhouse-clip"
ORACLE = "oracle"
EVEN = ("middle", "uniform", "keyframes", "scenes")  # the same frames for all questions about a video
SELECTORS = ("question", "bolt", "aks", "coverage")
SAMPLERS = (*EVEN, *SELECTORS, ORACLE)
LENGTHS_S = (LEAST_S, 60, 600, 1800, 3600, 10800)
# Number of frames → settings of the grid model, which was trained on one panel of 4 x 4.
GRIDS = {8: ("rows=2",), 16: (), 32: ("panels=2",)}
TEXT_ONLY, GRID = "dollhouse-topa", "dollhouse-grid"
MOST_TEXT_ONLY = 10  # frames that the text-only model takes; of more it is shown an even share


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One cell of the matrix, about `days` days of `seconds`."""

    out: Path
    seconds: int
    days: int
    budget: int
    sampler: str

    @property
    def file(self) -> Path:
        return self.out / "units" / f"{self.seconds}s_{self.budget}_{self.sampler}.json"


def court(
    *,
    out: str | Path,
    lengths_s: Sequence[int] = LENGTHS_S,
    budgets: Sequence[int] = tuple(GRIDS),
    samplers: Sequence[str] = SAMPLERS,
    days: int = 10,
    jobs: int = 1,
) -> list[Cell]:
    """Make the days and their pools, compute the cells that are missing, write table and plot."""
    for what, given, known in (("budget", budgets, tuple(GRIDS)), ("sampler", samplers, SAMPLERS)):
        for one in given:
            if one not in known:
                raise UserError(f"unknown {what} {one}: expected some of {', '.join(map(str, known))}")
    out = Path(out)
    for seconds in lengths_s:
        make(split="test", num=days, seconds=seconds, out=_data(out, seconds))
    for _ in in_processes(
        pool_cost, [(out, s) for s in lengths_s if not _pool_file(out, s).is_file()], jobs=jobs
    ):
        pass
    units = [
        Unit(out=out, seconds=seconds, days=days, budget=budget, sampler=sampler)
        for seconds, budget, sampler in product(lengths_s, budgets, samplers)
    ]
    missing = [(unit,) for unit in units if kept(unit) is None]
    if missing:
        for _ in in_processes(computed, missing, jobs=jobs):
            pass
    cells = [cell for unit in units if (cell := kept(unit)) is not None]
    figures = table(cells)
    atomic_write_text(out / "table.json", json.dumps(figures, indent=1) + "\n")
    atomic_write_text(out / "table.md", page(figures))
    atomic_write_text(out / "plot.svg", plot(figures))
    return cells


def computed(unit: Unit) -> None:
    """Choose the frames for all questions of a cell, ask both models, write the cell's file."""
    rows: list[dict[str, Any]] = []
    look_s = 0.0
    samples = questions(unit.out, unit.seconds)
    chooser = None
    if unit.sampler in SELECTORS:
        chooser = Chooser(
            ENCODER, sampler=unit.sampler, settings=PoolSettings(), folder=_pools(unit.out, unit.seconds)
        )
        chooser.pools.make([])  # the encoder is no part of the time
        chooser.pools.encoder.encode_text(["warm"])
    for group in _groups(samples, shared=unit.sampler in EVEN):
        started_s = time.perf_counter()
        frames = _frames(unit, group[0], chooser)
        look_s += time.perf_counter() - started_s
        choices = {name: _right(_model(name, unit.budget), group, frames) for name in (TEXT_ONLY, GRID)}
        for i, sample in enumerate(group):
            hit = any(in_evidence(float(t), sample) for t in frames.pts_s_T)
            rows.append(
                {
                    "id": sample.id,
                    "video": sample.video.id,
                    "kind": sample.kind,
                    "hit": None if sample.kind == "Purpose" else int(hit),
                    "text_only": choices[TEXT_ONLY][i],
                    "grid": choices[GRID][i],
                }
            )
    looks = len({s.video.id for s in samples}) if unit.sampler in EVEN else len(samples)
    content = {"key": _key(unit, samples), "look_s": look_s / looks, "rows": rows}
    atomic_write_text(unit.file, json.dumps(content) + "\n")


def kept(unit: Unit) -> Cell | None:
    """The cell that `computed` wrote, None if there is none. Raises UserError for one of other questions."""
    if not unit.file.is_file():
        return None
    content = json.loads(unit.file.read_text(encoding="utf-8"))
    if content["key"] != _key(unit, questions(unit.out, unit.seconds)):
        raise UserError(f"{unit.file} is of other questions: remove it, or give another --out")
    pool_s = 0.0
    if unit.sampler in SELECTORS:
        pool_s = json.loads(_pool_file(unit.out, unit.seconds).read_text(encoding="utf-8"))["seconds"]
    return Cell(
        seconds=unit.seconds,
        budget=unit.budget,
        sampler=unit.sampler,
        look_s=content["look_s"],
        pool_s=pool_s,
        rows=content["rows"],
    )


def pool_cost(out: Path, seconds: int) -> None:
    """Make the pools of all days of a length, and write what one took: decoding beside encoding, in seconds."""
    videos = list(dict.fromkeys(s.video for s in questions(out, seconds)))
    pools = Pools(ENCODER, settings=PoolSettings(), folder=_pools(out, seconds))
    pools.encoder.encode_text(["warm"])
    started_s = time.perf_counter()
    if failed := pools.make(videos):
        raise UserError(next(iter(failed.values())).reason)
    took_s = (time.perf_counter() - started_s) / len(videos)
    atomic_write_text(_pool_file(out, seconds), json.dumps({"seconds": took_s}) + "\n")


@cache
def questions(out: Path, seconds: int) -> list[Sample]:
    """The questions about all days of that length."""
    return dollhouse(_data(out, seconds), videos=_data(out, seconds) / "videos")


def _frames(unit: Unit, sample: Sample, chooser: Chooser | None) -> Frames:
    if chooser is not None:
        return chooser.frames(sample.video, unit.budget, question=stem(sample))
    if unit.sampler != ORACLE:
        return sample_frames(sample.video, unit.budget, sampler=unit.sampler)
    ((start_s, end_s),) = sample.evidence_s
    return sample_frames(replace(sample.video, start_s=start_s, end_s=end_s), unit.budget)


def _groups(samples: Sequence[Sample], *, shared: bool) -> list[list[Sample]]:
    """The questions that are answered from the same frames."""
    if not shared:
        return [[sample] for sample in samples]
    by_video: dict[str, list[Sample]] = {}
    for sample in samples:
        by_video.setdefault(sample.video.id, []).append(sample)
    return list(by_video.values())


def _right(model: VideoModel, samples: Sequence[Sample], frames: Frames) -> list[int]:
    """1 or 0 for each question; a failure is wrong."""
    num = model.num_frames()
    if len(frames) > num:
        frames = frames.at(np.linspace(0, len(frames) - 1, num).round().astype(int))
    answers = model.answer(samples[0].video, samples, seen=frames)
    decided = [decide(answer, reduction=model.settings.reduction) for answer in answers]
    return [int(answer.choice == sample.answer) for answer, sample in zip(decided, samples, strict=True)]


@cache
def _model(name: str, budget: int) -> VideoModel:
    if name == TEXT_ONLY:
        return load_model(name, args=[f"num_frames={min(budget, MOST_TEXT_ONLY)}"])
    return load_model(name, args=GRIDS[budget])


def _key(unit: Unit, samples: Sequence[Sample]) -> str:
    asked = [[s.id, s.question, s.options, s.answer] for s in samples]
    return key_of([unit.seconds, unit.days, unit.budget, unit.sampler, asked])


def _data(out: Path, seconds: int) -> Path:
    return out / "days" / f"{seconds}s"


def _pools(out: Path, seconds: int) -> Path:
    return out / "pools" / f"{seconds}s"


def _pool_file(out: Path, seconds: int) -> Path:
    return out / "pools" / f"{seconds}s.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[s / 60 for s in LENGTHS_S])
    parser.add_argument("--budgets", type=int, nargs="+", default=list(GRIDS))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--days", type=int, default=10, help="of each length")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    lengths_s = [round(60 * minutes) for minutes in args.minutes]
    court(
        out=args.out,
        lengths_s=lengths_s,
        budgets=args.budgets,
        samplers=args.samplers,
        days=args.days,
        jobs=args.jobs,
    )
    print((Path(args.out) / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
