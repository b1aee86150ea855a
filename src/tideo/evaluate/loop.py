"""Segments and their questions → answers in a store, one segment's frames decoded ahead of the model.

What fails becomes an answer with its error; only `Stopped` ends the run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tideo.console import progress
from tideo.evaluate.answers import MAIN, Item, record
from tideo.evaluate.benchmark import TideoOf
from tideo.evaluate.option_order import rotated, rotated_back
from tideo.models.interface import Controls, VideoInput, VideoModel
from tideo.parallel import finished, threads
from tideo.scoring import decide, finite
from tideo.store.records import RecordStore
from tideo.types import Answer, Frames, Stopped, UserError, Video, VideoError

log = logging.getLogger(__name__)
Looked = dict[int | None, Frames | VideoError | None]  # by Controls.num_frames
Segment = tuple[Video, dict[str, list[Item]]]  # and its questions under each control
_Unit = tuple[Video, str, Sequence[Item], Frames | VideoError | None]


def answer_all(
    segments: Sequence[Segment],
    named: Mapping[str, Controls],
    *,
    model: VideoModel,
    tideo_of: TideoOf | None,
    reduction: str,
    store: RecordStore,
) -> None:
    """Answer segment by segment; the next one's frames are decoded in a thread meanwhile.

    `reduction` decides the choice that is stored beside an answer's likelihoods.
    `tideo_of`: the benchmark's captions, which are shown instead of frames under the control `source` "text".
    """
    _warn_of_missing(segments, named, model=model)

    def answered(unit: _Unit) -> list[dict[str, Any]]:
        video, name, items, frames = unit
        answers = _answers(video, items, controls=named[name], frames=frames, model=model, tideo_of=tideo_of)
        unlike = isinstance(frames, Frames) and name == MAIN and model.out_of_distribution(frames) is not None
        return [
            record(item, decide(answer, reduction=reduction), unlike_training=unlike)
            for item, answer in zip(items, answers, strict=True)
        ]

    num = sum(len(items) for _, of_control in segments for items in of_control.values())
    with progress() as shown, threads(1) as thread:
        bar = shown.add_task("answering", total=num)
        units = _units(_ahead(segments, named, model=model, thread=thread), named, one=model.concurrency > 0)
        for records in finished(answered, units, at_once=max(1, model.concurrency)):
            for stored in records:
                store.append(stored)
            shown.advance(bar, len(records))


def _units(
    segments: Iterable[tuple[Video, dict[str, list[Item]], Looked]],
    named: Mapping[str, Controls],
    *,
    one: bool,
) -> Iterator[_Unit]:
    """What the model answers in one call: the questions about a segment under a control, or each by itself."""
    for video, of_control, looked in segments:
        for name, items in of_control.items():
            frames = looked[named[name].num_frames] if named[name].shows_video else None
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
            if named[name].shows_video and named[name].num_frames not in looked:
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


def _answers(
    video: Video,
    items: Sequence[Item],
    *,
    controls: Controls,
    frames: Frames | VideoError | None,
    model: VideoModel,
    tideo_of: TideoOf | None,
) -> list[Answer]:
    """The answers, or for each question the error that stands for its answer."""
    turn = controls.rotated
    samples = [rotated(item.sample, turn) for item in items]
    if isinstance(frames, VideoError):
        return [Answer(sample_id=s.id, error=str(frames)) for s in samples]
    try:
        seen: VideoInput = frames
        if controls.source == "text" and not controls.blind:
            assert tideo_of is not None
            seen = tideo_of(samples, num=model.num_frames(controls))
        answers = model.answer(video, samples, seen=seen, controls=controls)
    except Stopped:
        raise
    except UserError as error:
        return [Answer(sample_id=s.id, error=str(error)) for s in samples]
    return [rotated_back(finite(a), turn, len(s.options)) for a, s in zip(answers, samples, strict=True)]


def _warn_of_missing(
    segments: Sequence[Segment], named: Mapping[str, Controls], *, model: VideoModel
) -> None:
    """Warn of missing videos that the model would look at."""
    looked_at = [
        (video.path, sum(len(items) for name, items in of_control.items() if _looks(model, named[name])))
        for video, of_control in segments
    ]
    there = {path: os.path.exists(path) for path, num in looked_at if num}
    missing = sorted(path for path, is_there in there.items() if not is_there)
    if missing:
        log.warning(
            "%d of %d videos are missing, such as %s: %d answers about them will count as failed",
            len(missing), len(there), missing[0], sum(num for path, num in looked_at if path in missing),
        )  # fmt: skip


def _looks(model: VideoModel, controls: Controls) -> bool:
    return controls.shows_video and model.num_frames(controls) > 0
