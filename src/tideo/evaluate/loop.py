"""Segments and their questions → answers in a store, one segment's frames decoded ahead of the model.

What fails becomes an answer with its error; only `Stopped` ends the run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from tideo.evaluate.answers import MAIN, Item, record
from tideo.evaluate.option_order import rotated, turned_back
from tideo.models.interface import Controls, VideoModel
from tideo.parallel import finished
from tideo.store.records import RecordStore
from tideo.types import Answer, Frames, Stopped, UserError, Video, VideoError

log = logging.getLogger(__name__)
Looked = dict[int | None, Frames | VideoError | None]  # by Controls.num_frames
Segment = tuple[Video, dict[str, list[Item]]]  # and its questions under each control
_Unit = tuple[Video, str, Sequence[Item], Frames | VideoError | None]


def answer_all(
    segments: Sequence[Segment], named: Mapping[str, Controls], *, model: VideoModel, store: RecordStore
) -> None:
    """Answer segment by segment; the next one's frames are decoded in a thread meanwhile."""
    _tell_missing([video for video, _ in segments])

    def asked(unit: _Unit) -> list[dict[str, Any]]:
        video, name, items, frames = unit
        answers = _ask(video, items, controls=named[name], frames=frames, model=model)
        strange = name == MAIN and isinstance(frames, Frames) and model.strange(frames) is not None
        return [record(item, answer, strange=strange) for item, answer in zip(items, answers, strict=True)]

    num = sum(len(items) for _, of_control in segments for items in of_control.values())
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(1) as thread:
        bar = progress.add_task("answering", total=num)
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


def _ahead(
    segments: Sequence[Segment],
    named: Mapping[str, Controls],
    *,
    model: VideoModel,
    thread: ThreadPoolExecutor,
) -> Iterator[tuple[Video, dict[str, list[Item]], Looked]]:
    """Each segment with its frames, one segment ahead of the reader."""

    def look(segment: Segment) -> Looked:
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
    missing = sorted({video.path for video in videos if not Path(video.path).exists()})
    if missing:
        log.warning(
            "%d of %d videos are missing, such as %s: their questions will count as failed",
            len(missing),
            len({video.path for video in videos}),
            missing[0],
        )
