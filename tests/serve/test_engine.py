from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from serving import Longest
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
