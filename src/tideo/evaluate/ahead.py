"""Frames of the next segments, decoded in threads while the model answers about the ones before.

Threads suffice: PyAV gives up Python's lock while it decodes (speed/answering.py compares them with processes).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future

from tideo.evaluate.answers import Item
from tideo.models.batching import BatchSize
from tideo.models.interface import Controls, VideoModel
from tideo.parallel import threads
from tideo.types import Frames, Video, VideoError

Looked = dict[int | None, Frames | VideoError | None]  # by Controls.num_frames
Segment = tuple[Video, dict[str, list[Item]]]  # and its questions under each control
MOST_BYTES = 2 * 2**30  # of the frames that wait
MOST_WORKERS = 16  # of the default


def default_workers() -> int:
    """A thread for each core that this process may use; processes that one launcher started share them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))), MOST_WORKERS)


def decoded_ahead(
    segments: Sequence[Segment],
    named: Mapping[str, Controls],
    *,
    model: VideoModel,
    size: BatchSize,
    workers: int,
) -> Iterator[tuple[Video, dict[str, list[Item]], Looked]]:
    """Each segment with its frames, in order.

    Of a model that chooses frames for each question, a segment comes once for each of its questions. As many are begun
    as fill two batches and keep the workers at it, unless their frames would take more than MOST_BYTES: the largest
    segment so far says what the next one takes.
    """

    def look(of_control: Mapping[str, Sequence[Item]]) -> Looked:
        looked: Looked = {}
        for name, items in of_control.items():
            if named[name].shows_video and named[name].num_frames not in looked:
                try:
                    looked[named[name].num_frames] = model.look_for(items[0].sample, controls=named[name])
                except VideoError as error:
                    looked[named[name].num_frames] = error
        return looked

    left, largest = iter(by_question(segments) if model.chooses else segments), 0
    waiting: deque[tuple[Segment, Future[Looked]]] = deque()
    with threads(workers) as pool:
        while True:
            while _wants_more(waiting, size=size, workers=workers, largest=largest):
                if (segment := next(left, None)) is None:
                    break
                waiting.append((segment, pool.submit(look, segment[1])))
            if not waiting:
                return
            (video, of_control), future = waiting.popleft()
            looked = future.result()
            largest = max(largest, num_bytes(looked.values()))
            yield video, of_control, looked


def by_question(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Each segment once for each of its questions, with the items of that question."""
    for video, of_control in segments:
        of_question: dict[str, dict[str, list[Item]]] = {}
        for name, items in of_control.items():
            for item in items:
                of_question.setdefault(item.sample.id, {}).setdefault(name, []).append(item)
        for items_of in of_question.values():
            yield video, items_of


def _wants_more(
    waiting: Sequence[tuple[Segment, Future[Looked]]], *, size: BatchSize, workers: int, largest: int
) -> bool:
    if not waiting:
        return True
    if not largest:  # nothing is known yet
        return len(waiting) < workers
    questions = sum(len(items) for (_, of_control), _ in waiting for items in of_control.values())
    return (len(waiting) <= workers or questions < 2 * size.now) and (
        len(waiting) + 1
    ) * largest <= MOST_BYTES


def num_bytes(looked: Iterable[Frames | VideoError | None]) -> int:
    """What the frames among these take, each once."""
    return sum(frames.num_bytes for frames in dict.fromkeys(f for f in looked if isinstance(f, Frames)))
