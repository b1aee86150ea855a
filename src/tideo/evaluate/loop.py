"""Segments and their questions → answers in a store; the frames of the next segments are decoded meanwhile.

What fails becomes an answer with its error; only `Stopped` ends the run.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tideo.console import progress
from tideo.evaluate.ahead import Looked, Segment, decoded_ahead, num_bytes
from tideo.evaluate.answers import MAIN, Item, record
from tideo.evaluate.benchmark import TideoOf
from tideo.evaluate.option_order import rotated, rotated_back
from tideo.models.batching import BatchSize, in_batches
from tideo.models.interface import Asked, Controls, VideoInput, VideoModel
from tideo.parallel import finished
from tideo.scoring import decide, finite
from tideo.store.records import RecordStore
from tideo.types import Answer, Frames, UserError, Video, VideoError

log = logging.getLogger(__name__)
MOST_BYTES = 2 * 2**30  # of the frames in a batch


@dataclass(frozen=True, kw_only=True, eq=False)
class _Unit:
    """Questions about a segment under a control, which are answered in one call."""

    video: Video
    control: str
    items: Sequence[Item]
    frames: Frames | VideoError | None


_Result = tuple[list[Answer], bool]  # and whether the video is unlike those that the model was trained on
_Answered = list[tuple[_Unit, _Result | UserError]]


def answer_all(
    segments: Sequence[Segment],
    named: Mapping[str, Controls],
    *,
    model: VideoModel,
    tideo_of: TideoOf | None,
    reduction: str,
    store: RecordStore,
    workers: int,
) -> None:
    """Answer batch by batch; the frames of the next segments are decoded in `workers` threads meanwhile.

    `reduction` decides the choice that is stored beside an answer's likelihoods.
    `tideo_of`: the benchmark's captions, which are shown instead of frames under the control `source` "text".
    """
    _warn_of_missing(segments, named, model=model)
    size, started_s, num_answered = model.batch_size(), time.perf_counter(), 0
    num = sum(len(items) for _, of_control in segments for items in of_control.values())
    ahead = decoded_ahead(segments, named, model=model, size=size, workers=workers)
    units = _units(ahead, named, one=model.concurrency > 0)
    answer = partial(_results, named=named, model=model, tideo_of=tideo_of)
    with progress() as shown:
        bar = shown.add_task("answering", total=num)
        for answered in _answered(units, answer, size=size, concurrency=model.concurrency):
            for unit, result in answered:
                for stored in _records(unit, result, turn=named[unit.control].rotated, reduction=reduction):
                    store.append(stored)
                num_answered += len(unit.items)
            rate = num_answered / (time.perf_counter() - started_s)
            shown.update(bar, completed=num_answered, description=f"answering, {rate:.1f} questions/s")
    if num and not model.concurrency:
        seconds = time.perf_counter() - started_s
        log.info(
            "%.1f questions a second, at most %d in a batch; the model was busy %.0f%% of the time",
            num / seconds, size.now, 100 * size.busy_s / seconds,
        )  # fmt: skip


def _answered(
    units: Iterator[_Unit],
    answer: Callable[[Sequence[_Unit], int], list[_Result]],
    *,
    size: BatchSize,
    concurrency: int,
) -> Iterator[_Answered]:
    """Units as they are answered: batch by batch, or each in one of several threads."""
    batches = partial(in_batches, answer=answer, weight=_weight, fits=_fits)
    if concurrency:
        yield from finished(lambda unit: next(batches([unit], size=BatchSize(1))), units, at_once=concurrency)
    else:
        yield from batches(units, size=size)


def _weight(unit: _Unit) -> int:
    """The questions that reach the model."""
    return 0 if isinstance(unit.frames, VideoError) else len(unit.items)


def _fits(batch: Sequence[_Unit]) -> bool:
    return num_bytes(unit.frames for unit in batch) <= MOST_BYTES


def _units(
    segments: Iterable[tuple[Video, dict[str, list[Item]], Looked]],
    named: Mapping[str, Controls],
    *,
    one: bool,
) -> Iterator[_Unit]:
    """The questions about a segment under a control, together or each by itself."""
    for video, of_control, looked in segments:
        for name, items in of_control.items():
            frames = looked[named[name].num_frames] if named[name].shows_video else None
            for part in ([item] for item in items) if one else [items]:
                yield _Unit(video=video, control=name, items=part, frames=frames)


def _results(
    units: Sequence[_Unit],
    at_once: int,
    *,
    named: Mapping[str, Controls],
    model: VideoModel,
    tideo_of: TideoOf | None,
) -> list[_Result]:
    """The answers, of a video that cannot be read its error. Raises as `answer_many` of the model."""
    results: dict[_Unit, _Result] = {}
    asked: dict[_Unit, Asked] = {}
    for unit in units:
        controls = named[unit.control]
        samples = [rotated(item.sample, controls.rotated) for item in unit.items]
        if isinstance(unit.frames, VideoError):
            results[unit] = [Answer(sample_id=s.id, error=str(unit.frames)) for s in samples], False
            continue
        seen: VideoInput = unit.frames
        if controls.source == "text" and not controls.blind:
            assert tideo_of is not None
            seen = tideo_of(samples, num=model.num_frames(controls))
        asked[unit] = Asked(video=unit.video, samples=samples, seen=seen, controls=controls)
    if asked:
        answers = model.answer_many(list(asked.values()), at_once=at_once)
        for unit, of_unit in zip(asked, answers, strict=True):
            if isinstance(unit.frames, Frames) and unit.frames.relevance:
                of_unit = [replace(a, relevance=unit.frames.relevance) for a in of_unit]
            unlike = (
                unit.control == MAIN
                and isinstance(unit.frames, Frames)
                and model.out_of_distribution(unit.frames) is not None
            )
            results[unit] = of_unit, unlike
    return [results[unit] for unit in units]


def _records(unit: _Unit, result: _Result | UserError, *, turn: int, reduction: str) -> list[dict[str, Any]]:
    """What is stored: the answers for the options in their own order, or the error that stands for each."""
    answers, unlike = (
        ([Answer(sample_id=item.sample.id, error=str(result)) for item in unit.items], False)
        if isinstance(result, UserError)
        else result
    )
    records = []
    for item, answer in zip(unit.items, answers, strict=True):
        in_order = rotated_back(finite(answer), turn, len(item.sample.options))
        records.append(record(item, decide(in_order, reduction=reduction), unlike_training=unlike))
    return records


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
