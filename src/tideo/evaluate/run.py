"""A benchmark, a model and its controls → a run directory that a kill at any time cannot spoil.

    OUT/run.json        what was run: recipe, versions, commit, command
    OUT/answers.jsonl   one Answer a line, under a key that hashes all that it depends on
    OUT/report.json, OUT/report.html

A second call answers only what has no answer yet: more questions, another control, a video that was missing.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.progress import Progress

from tideo import registry
from tideo.config import RUN_FILE, read_run, write_run
from tideo.evaluate.orders import orders, rotated, turned_back
from tideo.evaluate.plan import (
    ANSWERS_FILE,
    MAIN,
    Item,
    by_segment,
    choose_controls,
    drop_failed,
    drop_replaced,
    plan,
    read_answers,
    record,
)
from tideo.evaluate.report import write_report
from tideo.evaluate.results import Report, summarise_run
from tideo.models.bundled import load_model
from tideo.models.settings import AS_TRAINED, Controls, VideoModel
from tideo.store import RecordStore
from tideo.types import Answer, Frames, Sample, Stopped, UserError, Video, VideoError

log = logging.getLogger(__name__)
Looked = dict[int | None, Frames | VideoError | None]  # by Controls.num_frames
_Unit = tuple[Video, str, Sequence[Item], Frames | VideoError | None]
Unit = TypeVar("Unit")
Told = TypeVar("Told")


def evaluate(
    *,
    benchmark: str,
    data: str | Path,
    videos: str | Path,
    model: str | VideoModel,
    out: str | Path,
    limit: int | None = None,
    controls: Sequence[str] | None = None,
    reduction: str | None = None,
    permute: bool = False,
    missing: Literal["wrong", "skip"] = "wrong",
    retry_failed: bool = False,
) -> Report:
    """Answer a benchmark's questions and write the run directory; continues where an earlier call stopped.

    `limit` takes the first questions. `controls` are names in plan.CONTROLS; None takes all that apply.
    `reduction`: a name in models/reductions.py, else the model's own. `permute` asks with the options in every cyclic
    order. A question that fails is kept with its error and counts as wrong, unless `missing` leaves out those whose
    video is missing; `retry_failed` asks again what failed before. Raises UserError for a wrong name, malformed data,
    or an OUT of another model or benchmark.
    """
    out = Path(out)
    samples: list[Sample] = registry.load("benchmarks", benchmark)(data, videos=videos)[:limit]
    every = len(samples)
    if missing == "skip":
        samples = _with_video(samples)
    asked = load_model(model) if isinstance(model, str) else model
    in_order = {MAIN: AS_TRAINED, **(orders(samples) if permute else {})}
    named = {**in_order, **choose_controls(controls, samples, model=asked)}
    reduction = reduction or asked.settings.reduction
    chosen = [name for name in named if name not in in_order]
    recipe = {
        "benchmark": benchmark,
        "data": str(data),
        "videos": str(videos),
        "model": asked.name,
        "settings": dataclasses.asdict(asked.settings),
        "limit": limit,
        "controls": chosen,
        "reduction": reduction,
        "permute": permute,
        "missing": missing,
    }
    _check_same_run(out, benchmark=benchmark, model=asked.name)
    write_run(out, recipe=recipe)

    items = plan(samples, named, model=asked)
    if retry_failed:
        drop_failed(out / ANSWERS_FILE)
    with RecordStore(out / ANSWERS_FILE, id_field="key") as store:
        todo = [item for item in items if item.key not in store]
        _answer_all(todo, named, model=asked, store=store)
        drop_replaced(out / ANSWERS_FILE, items)

    answers, strange = read_answers(out)
    report = summarise_run(
        samples,
        {name: answers[name] for name in named},
        reduction=reduction,
        controls=chosen,
        benchmark=benchmark,
        model=asked.name,
        run=dataclasses.asdict(read_run(out)),
        n_strange=len({s.video.id for s in samples if s.id in strange}),
        n_left_out=every - len(samples),
    )
    report.save(out)
    write_report([out], out=out / "report.html")
    return report


def _with_video(samples: Sequence[Sample]) -> list[Sample]:
    """The questions whose video is there; the others are told. Raises UserError where none is left."""
    there = {path: Path(path).is_file() for path in {s.video.path for s in samples}}
    kept = [s for s in samples if there[s.video.path]]
    if not kept:
        raise UserError(
            f"none of {len(there)} videos is there, such as {min(there)}: give their folder with --videos"
        )
    if len(kept) < len(samples):
        gone = sorted(path for path, is_there in there.items() if not is_there)
        log.warning(
            "%d questions about %d missing videos are left out: %s%s",
            len(samples) - len(kept), len(gone), ", ".join(gone[:5]), " …" if len(gone) > 5 else "",
        )  # fmt: skip
    return kept


def _check_same_run(out: Path, *, benchmark: str, model: str) -> None:
    if not (out / RUN_FILE).exists():
        return
    there = read_run(out).recipe
    if (there.get("benchmark"), there.get("model")) != (benchmark, model):
        raise UserError(
            f"{out} holds a run of {there.get('model')} on {there.get('benchmark')}, "
            f"not of {model} on {benchmark}: give another --out"
        )


def _answer_all(
    todo: Sequence[Item], named: Mapping[str, Controls], *, model: VideoModel, store: RecordStore
) -> None:
    """Answer segment by segment; the next one's frames are decoded in a thread meanwhile."""
    segments = list(by_segment(todo))
    _tell_missing([video for video, _ in segments])

    def asked(unit: _Unit) -> list[dict[str, Any]]:
        video, name, items, frames = unit
        answers = _ask(video, items, controls=named[name], frames=frames, model=model)
        strange = name == MAIN and isinstance(frames, Frames) and model.strange(frames) is not None
        return [record(item, answer, strange=strange) for item, answer in zip(items, answers, strict=True)]

    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(1) as thread:
        bar = progress.add_task("answering", total=len(todo))
        units = _units(_ahead(segments, named, model=model, thread=thread), named, one=model.concurrency > 0)
        for records in finished(asked, units, at_once=max(1, model.concurrency)):
            for answered in records:
                store.append(answered)
            progress.advance(bar, len(records))


def _units(
    segments: Iterable[tuple[Video, dict[str, list[Item]], Looked]],
    named: Mapping[str, Controls],
    *,
    one: bool,
) -> Iterator[_Unit]:
    """What is asked in one go: the questions about a segment under a control, or each by itself."""
    for video, of_control, looked in segments:
        for name, items in of_control.items():
            frames = looked[named[name].num_frames] if _sees(named[name]) else None
            for part in ([item] for item in items) if one else [items]:
                yield video, name, part, frames


def finished(ask: Callable[[Unit], Told], units: Iterable[Unit], *, at_once: int) -> Iterator[Told]:
    """What `ask` gives for each unit, up to `at_once` of them asked at a time, in the order in which they finish.

    Where one raises Stopped, what is under way is waited for and given first.
    """
    if at_once == 1:
        yield from map(ask, units)
        return
    left, stopped = iter(units), None
    waiting: set[Future[Told]] = set()
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            if stopped is None:
                waiting |= {pool.submit(ask, unit) for unit in islice(left, at_once - len(waiting))}
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    yield future.result()
                except Stopped as error:
                    stopped = error
    if stopped is not None:
        raise stopped


def _ahead(
    segments: Sequence[tuple[Video, dict[str, list[Item]]]],
    named: Mapping[str, Controls],
    *,
    model: VideoModel,
    thread: ThreadPoolExecutor,
) -> Iterator[tuple[Video, dict[str, list[Item]], Looked]]:
    """Each segment with its frames, one segment ahead of the reader."""

    def look(segment: tuple[Video, dict[str, list[Item]]]) -> Looked:
        video, of_control = segment
        looked: Looked = {}
        for name in of_control:
            if _sees(named[name]) and named[name].num_frames not in looked:
                try:
                    looked[named[name].num_frames] = model.look(video, controls=named[name])
                except VideoError as error:
                    looked[named[name].num_frames] = error
        return looked

    waiting = [thread.submit(look, segment) for segment in segments[:1]]
    for i, segment in enumerate(segments):
        looked = waiting.pop().result()
        waiting = [thread.submit(look, following) for following in segments[i + 1 : i + 2]]
        yield *segment, looked


def _sees(controls: Controls) -> bool:
    return not controls.blind and controls.source == "video"


def _ask(
    video: Video,
    items: Sequence[Item],
    *,
    controls: Controls,
    frames: Frames | VideoError | None,
    model: VideoModel,
) -> list[Answer]:
    """The answers, or for each question the error that kept it from being asked."""
    turn = controls.rotated
    samples = [rotated(item.sample, turn) for item in items]
    if isinstance(frames, VideoError):
        return [Answer(sample_id=s.id, error=str(frames)) for s in samples]
    try:
        answers = model.answer(video, samples, controls=controls, frames=frames)
    except Stopped:
        raise
    except UserError as error:
        return [Answer(sample_id=s.id, error=str(error)) for s in samples]
    return [turned_back(_finite(a), turn, len(s.options)) for a, s in zip(answers, samples, strict=True)]


def _finite(answer: Answer) -> Answer:
    """An answer whose likelihoods overflowed is a failure, not a choice."""
    if all(map(math.isfinite, answer.loglikelihoods)):
        return answer
    error = f"the log-likelihoods are not finite: {answer.loglikelihoods}"
    return replace(answer, loglikelihoods=(), num_tokens=(), error=error)


def _tell_missing(videos: Sequence[Video]) -> None:
    missing = sorted({video.path for video in videos if not Path(video.path).is_file()})
    if missing:
        log.warning(
            "%d of %d videos are missing, such as %s: their questions will count as failed",
            len(missing),
            len({video.path for video in videos}),
            missing[0],
        )
