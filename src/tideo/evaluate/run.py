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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tideo import registry
from tideo.config import RUN_FILE, read_run, write_run
from tideo.evaluate.plan import (
    ANSWERS_FILE,
    MAIN,
    Item,
    by_segment,
    choose_controls,
    drop_replaced,
    plan,
    read_answers,
    record,
)
from tideo.evaluate.report import write_report
from tideo.evaluate.results import Report, summarise
from tideo.evaluate.scoring import decide
from tideo.models.bundled import load_model
from tideo.models.settings import AS_TRAINED, Controls, VideoModel
from tideo.store import RecordStore
from tideo.types import Answer, Frames, Sample, UserError, Video, VideoError

log = logging.getLogger(__name__)
Looked = dict[int | None, Frames | VideoError | None]  # by Controls.num_frames


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
) -> Report:
    """Answer a benchmark's questions and write the run directory; continues where an earlier call stopped.

    `limit` takes the first questions. `controls` are names in plan.CONTROLS; None takes all that apply.
    `reduction`: a name in scoring.REDUCTIONS, else the model's own. A question that fails is kept with its
    error and counts as wrong. Raises UserError for a wrong name, malformed data, or an OUT of another
    model or benchmark.
    """
    out = Path(out)
    samples: list[Sample] = registry.load("benchmarks", benchmark)(data, videos=videos)[:limit]
    asked = load_model(model) if isinstance(model, str) else model
    named = {MAIN: AS_TRAINED, **choose_controls(controls, samples, model=asked)}
    reduction = reduction or asked.settings.reduction
    recipe = {
        "benchmark": benchmark,
        "data": str(data),
        "videos": str(videos),
        "model": asked.name,
        "settings": dataclasses.asdict(asked.settings),
        "limit": limit,
        "controls": [name for name in named if name != MAIN],
        "reduction": reduction,
    }
    _check_same_run(out, benchmark=benchmark, model=asked.name)
    write_run(out, recipe=recipe)

    items = plan(samples, named, model=asked)
    with RecordStore(out / ANSWERS_FILE, id_field="key") as store:
        todo = [item for item in items if item.key not in store]
        _answer_all(todo, named, model=asked, store=store)
        drop_replaced(out / ANSWERS_FILE, items)

    answers, strange = read_answers(out)
    decided = {
        name: {s.id: decide(answers[name][s.id], reduction=reduction) for s in samples} for name in named
    }
    report = summarise(
        samples,
        decided.pop(MAIN),
        controls=decided,
        benchmark=benchmark,
        model=asked.name,
        run=dataclasses.asdict(read_run(out)),
        n_strange=len({s.video.id for s in samples if s.id in strange}),
    )
    report.save(out)
    write_report([out], out=out / "report.html")
    return report


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
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(1) as thread:
        bar = progress.add_task("answering", total=len(todo))
        for (video, of_control), looked in _ahead(segments, named, model=model, thread=thread):
            for name, items in of_control.items():
                frames = looked[named[name].num_frames] if _sees(named[name]) else None
                answers = _ask(video, items, controls=named[name], frames=frames, model=model)
                strange = name == MAIN and isinstance(frames, Frames) and model.strange(frames) is not None
                for item, answer in zip(items, answers, strict=True):
                    store.append(record(item, answer, strange=strange))
                progress.advance(bar, len(items))


def _ahead(
    segments: Sequence[tuple[Video, dict[str, list[Item]]]],
    named: Mapping[str, Controls],
    *,
    model: VideoModel,
    thread: ThreadPoolExecutor,
) -> Iterator[tuple[tuple[Video, dict[str, list[Item]]], Looked]]:
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
        yield segment, looked


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
    samples = [item.sample for item in items]
    if isinstance(frames, VideoError):
        return [Answer(sample_id=s.id, error=str(frames)) for s in samples]
    try:
        answers = model.answer(video, samples, controls=controls, frames=frames)
    except UserError as error:
        return [Answer(sample_id=s.id, error=str(error)) for s in samples]
    return [_finite(answer) for answer in answers]


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
