"""The sampler court: which frames of a long video to look at, decided on dollhouse days whose evidence is known.

    OMP_NUM_THREADS=1 python -m tideo.lab.sampler_court --out runs/court --minutes 1 10 --budgets 16 --days 2 --jobs 2

For each length, number of frames and sampler: the share of questions with a frame in the evidence, the accuracy of the
text-only and of the grid model on the same frames, and what choosing and decoding took. The sampler `oracle` takes its
frames from the evidence. Without --minutes and --budgets it is the whole matrix, 10 s to 3 h, 8 to 32 frames.

OUT/units has a small file for each cell and day, and what has a file is not computed again: a killed court continues,
and a larger number of days adds to those that are there.
Writes OUT/table.md, OUT/table.json, OUT/plot.svg, and OUT/separation.json: how well the encoder tells evidence apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tideo.benchmarks.dollhouse import dollhouse
from tideo.dollhouse.day import LEAST_S
from tideo.dollhouse.export import make
from tideo.evaluate.grounding import in_evidence
from tideo.lab.court_frames import SAMPLERS, SELECTORS, chooser, frames_of
from tideo.lab.court_separation import separation
from tideo.lab.court_table import Cell, page, plot, table
from tideo.models.interface import Asked, VideoModel
from tideo.models.load import load_model
from tideo.parallel import in_processes
from tideo.scoring import decide
from tideo.store.files import atomic_write_text, key_of
from tideo.types import Frames, Sample, UserError

LENGTHS_S = (LEAST_S, 60, 600, 1800, 3600, 10800)
# Number of frames → settings of the grid model, which was trained on one panel of 4 x 4.
GRIDS = {8: ("rows=2",), 16: (), 32: ("panels=2",)}
TEXT_ONLY, GRID = "dollhouse-topa", "dollhouse-grid"
AT_ONCE = 16  # questions in a forward pass
MOST_TEXT_ONLY = 10  # frames that the text-only model takes; of more it is shown an even share


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A day's part of a cell: its questions, answered from the frames of one sampler."""

    out: Path
    seconds: int
    video: str  # the day's id
    budget: int
    sampler: str

    @property
    def file(self) -> Path:
        return self.out / "units" / f"{self.seconds}s" / f"{self.video}_{self.budget}_{self.sampler}.json"


def court(
    *,
    out: str | Path,
    lengths_s: Sequence[int] = LENGTHS_S,
    budgets: Sequence[int] = tuple(GRIDS),
    samplers: Sequence[str] = SAMPLERS,
    days: Sequence[int] = (10,),
    jobs: int = 1,
) -> list[Cell]:
    """Make the days and their pools, compute the units that are missing, write table and plot.

    `days`: of each length, or one number for all.
    """
    for what, given, known in (("budget", budgets, tuple(GRIDS)), ("sampler", samplers, SAMPLERS)):
        for one in given:
            if one not in known:
                raise UserError(f"unknown {what} {one}: expected some of {', '.join(map(str, known))}")
    if len(days) not in (1, len(lengths_s)):
        raise UserError(
            f"{len(days)} numbers of days for {len(lengths_s)} lengths: expected one, or one of each"
        )
    out = Path(out)
    videos: dict[int, list[str]] = {}
    for seconds, num in zip(lengths_s, days if len(days) > 1 else [*days] * len(lengths_s), strict=True):
        make(split="test", num=num, seconds=seconds, out=_data(out, seconds))
        questions.cache_clear()
        videos[seconds] = list(questions(out, seconds))
    pools = [(out, seconds, video) for seconds in lengths_s for video in videos[seconds]]
    for _ in in_processes(pool_cost, [pool for pool in pools if not _pool_file(*pool).is_file()], jobs=jobs):
        pass
    # A day after the other, so that a process keeps the frames of one.
    units = [
        Unit(out=out, seconds=seconds, video=video, budget=budget, sampler=sampler)
        for seconds in lengths_s
        for video in videos[seconds]
        for budget, sampler in product(budgets, samplers)
    ]
    missing = [(unit,) for unit in units if kept(unit) is None]
    for _ in in_processes(computed, missing, jobs=jobs):
        pass
    cells = [
        joined([unit for unit in units if (unit.seconds, unit.budget, unit.sampler) == cell])
        for cell in product(lengths_s, budgets, samplers)
    ]
    figures = table(cells)
    atomic_write_text(out / "table.json", json.dumps(figures, indent=1) + "\n")
    atomic_write_text(out / "table.md", page(figures))
    atomic_write_text(out / "plot.svg", plot(figures))
    found = {
        seconds: separation(questions(out, seconds), pools=_pools(out, seconds)) for seconds in lengths_s
    }
    atomic_write_text(out / "separation.json", json.dumps(found, indent=1) + "\n")
    return cells


def computed(unit: Unit) -> None:
    """Choose the frames for all questions of a unit, ask both models, write the unit's file."""
    samples = questions(unit.out, unit.seconds)[unit.video]
    shown, look_s = frames_of(
        samples, sampler=unit.sampler, num=unit.budget, pools=_pools(unit.out, unit.seconds)
    )
    choices = {name: _right(_model(name, unit.budget), samples, shown) for name in (TEXT_ONLY, GRID)}
    rows = [
        {
            "id": sample.id,
            "video": unit.video,
            "kind": sample.kind,
            "hit": None
            if sample.kind == "Purpose"
            else int(any(in_evidence(float(t), sample) for t in frames.pts_s_T)),
            "text_only": choices[TEXT_ONLY][i],
            "grid": choices[GRID][i],
        }
        for i, (sample, frames) in enumerate(zip(samples, shown, strict=True))
    ]
    content = {"key": _key(unit, samples), "look_s": look_s, "rows": rows}
    atomic_write_text(unit.file, json.dumps(content) + "\n")


def kept(unit: Unit) -> dict[str, Any] | None:
    """What `computed` wrote, None if there is nothing. Raises UserError for a file of other questions."""
    if not unit.file.is_file():
        return None
    content: dict[str, Any] = json.loads(unit.file.read_text(encoding="utf-8"))
    if content["key"] != _key(unit, questions(unit.out, unit.seconds)[unit.video]):
        raise UserError(f"{unit.file} is of other questions: remove it, or give another --out")
    return content


def joined(units: Sequence[Unit]) -> Cell:
    """The cell of units that are computed, one a day."""
    contents = [content for unit in units if (content := kept(unit)) is not None]
    files = [_pool_file(u.out, u.seconds, u.video) for u in units if u.sampler in SELECTORS]
    pools_s = [json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in files]
    return Cell(
        seconds=units[0].seconds,
        budget=units[0].budget,
        sampler=units[0].sampler,
        look_s=fmean(content["look_s"] for content in contents),
        pool_s=fmean(pools_s) if pools_s else 0.0,
        rows=[row for content in contents for row in content["rows"]],
    )


def pool_cost(out: Path, seconds: int, video: str) -> None:
    """Make the pool of a day, and write what it took: decoding beside encoding, in seconds."""
    sample, *_ = questions(out, seconds)[video]
    pools = chooser(SELECTORS[0], _pools(out, seconds)).pools
    started_s = time.perf_counter()
    if failed := pools.make([sample.video]):
        raise UserError(next(iter(failed.values())).reason)
    took_s = time.perf_counter() - started_s
    atomic_write_text(_pool_file(out, seconds, video), json.dumps({"seconds": took_s}) + "\n")


@cache
def questions(out: Path, seconds: int) -> dict[str, list[Sample]]:
    """The questions about the days of that length, by the days' ids."""
    by_video: dict[str, list[Sample]] = {}
    for sample in dollhouse(_data(out, seconds), videos=_data(out, seconds) / "videos"):
        by_video.setdefault(sample.video.id, []).append(sample)
    return by_video


def _right(model: VideoModel, samples: Sequence[Sample], shown: Sequence[Frames]) -> list[int]:
    """1 or 0 for each question about its frames; a failure is wrong."""
    num = model.num_frames()
    groups: dict[int, list[int]] = {}  # the questions about the same frames are asked together
    for i, frames in enumerate(shown):
        groups.setdefault(id(frames), []).append(i)
    asked = [
        Asked(
            video=samples[group[0]].video,
            samples=[samples[i] for i in group],
            seen=_thinned(shown[group[0]], num),
        )
        for group in groups.values()
    ]
    answers = {a.sample_id: a for of in model.answer_many(asked, at_once=AT_ONCE) for a in of}
    decided = [decide(answers[sample.id], reduction=model.settings.reduction) for sample in samples]
    return [int(answer.choice == sample.answer) for answer, sample in zip(decided, samples, strict=True)]


def _thinned(frames: Frames, num: int) -> Frames:
    if len(frames) <= num:
        return frames
    return frames.at(np.linspace(0, len(frames) - 1, num).round().astype(int))


@cache
def _model(name: str, budget: int) -> VideoModel:
    if name == TEXT_ONLY:
        return load_model(name, args=[f"num_frames={min(budget, MOST_TEXT_ONLY)}"])
    return load_model(name, args=GRIDS[budget])


def _key(unit: Unit, samples: Sequence[Sample]) -> str:
    asked = [[s.id, s.question, s.options, s.answer] for s in samples]
    return key_of([unit.seconds, unit.budget, unit.sampler, asked])


def _data(out: Path, seconds: int) -> Path:
    return out / "days" / f"{seconds}s"


def _pools(out: Path, seconds: int) -> Path:
    return out / "pools" / f"{seconds}s"


def _pool_file(out: Path, seconds: int, video: str) -> Path:
    return out / "pools" / f"{seconds}s-cost" / f"{video}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[s / 60 for s in LENGTHS_S])
    parser.add_argument("--budgets", type=int, nargs="+", default=list(GRIDS))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--days", type=int, nargs="+", default=[10], help="of each length, or of all")
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
