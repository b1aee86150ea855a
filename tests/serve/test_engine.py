from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakSet

import numpy as np

from serving import Longest
from tideo.models.interface import AS_TRAINED, Controls
from tideo.serve.engine import Engine, FrameCache
from tideo.types import Frames, Sample, Video


class Unwritable(Frames):
    def __repr__(self) -> str:
        raise AssertionError("pictures were written out as text")


def test_pictures_are_not_written_out_for_an_error_that_nobody_reads():
    # deque.remove writes what it does not find into its error: 5 ms for the frames of one request.
    video = Video(id="v", path="v.mp4")
    frames = Unwritable(rgb_THWC=np.zeros((2, 8, 8, 3), np.uint8), pts_s_T=np.arange(2.0), video_id="v")

    async def asked() -> int | None:
        with ThreadPoolExecutor(1) as decoder:
            engine = Engine(
                Longest(), max_requests=1, cache=FrameCache(max_bytes=1), decoder=decoder, read_s=1.0
            )
            engine.start()
            sample = Sample(id="1", video=video, question="?", options=("a", "longest"))
            answered = await engine.ask(sample, key=None, frames=frames)
            await engine.stop()
        return answered.answer.choice

    assert asyncio.run(asked()) == 1


class Filming(Longest):
    """Frames of a megabyte for each video; notes the most of them that were in memory at once."""

    def __init__(self) -> None:
        super().__init__(seconds=0.01)
        self.frames = deque(maxlen=1)  # type: ignore[assignment]
        self.alive: WeakSet[Frames] = WeakSet()
        self.most = 0

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        frames = Frames(rgb_THWC=np.zeros((1, 600, 600, 3), np.uint8), pts_s_T=np.zeros(1), video_id=video.id)
        self.alive.add(frames)
        self.most = max(self.most, len(self.alive))
        return frames


def test_frames_whose_questions_wait_are_bounded() -> None:
    async def asked(model: Filming) -> list[str]:
        with ThreadPoolExecutor(2) as decoder:
            cache = FrameCache(max_bytes=3 * 600 * 600 * 3, at_once=2)
            engine = Engine(model, max_requests=99, cache=cache, decoder=decoder, read_s=9.0)
            engine.start()
            samples = [
                Sample(id=str(n), video=Video(id=str(n), path=f"{n}.mp4"), question=str(n)) for n in range(40)
            ]

            async def text(sample: Sample) -> str:
                return (await engine.ask(sample, key=sample.id)).answer.text

            found = await asyncio.gather(*map(text, samples))
            await engine.stop()
        return found

    model = Filming()
    assert asyncio.run(asked(model)) == [str(n) for n in range(40)]
    assert model.most <= 2 * 3 + 3  # what may wait, two that are decoded, and the one that is answered
