"""Requests → answers of one model, which is asked by one thread: requests about the same frames share a call.

A request passes two stages. Its frames are decoded in a thread, once however many requests wait for them, and stay in
a cache. Then it waits for the model, which takes the oldest request and every other about the same frames. The features
that a model keeps of `Frames` live as long as the frames do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tideo.models.interface import VideoModel
from tideo.scoring import decide
from tideo.types import Answer, Frames, Sample, UserError, Video


class Full(Exception):
    """As many requests wait as the server lets wait."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An answer, its choice made; one line that warns of frames unlike what the model was trained on; the frames."""

    answer: Answer
    warning: str | None
    frames: Frames | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    sample: Sample
    frames: Frames | None
    asked: asyncio.Future[Asked] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FrameCache:
    """The frames of videos by key, the least recently used left out beyond `max_bytes` of pictures."""

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._kept: OrderedDict[Hashable, Frames | None] = OrderedDict()
        self._decoding: dict[Hashable, asyncio.Task[Frames | None]] = {}

    async def get(self, key: Hashable, decode: Callable[[], Awaitable[Frames | None]]) -> Frames | None:
        """The frames of that key. Those who ask for the same one at the same time wait for one decoding."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        task = self._decoding.get(key)
        if task is None:
            task = self._decoding[key] = asyncio.ensure_future(decode())
            task.add_done_callback(lambda done: self._keep(key, done))
        # A client that leaves must not end a decoding for which others wait.
        return await asyncio.shield(task)

    def _keep(self, key: Hashable, done: asyncio.Task[Frames | None]) -> None:
        del self._decoding[key]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[key] = done.result()
        self.num_bytes += _num_bytes(done.result())
        while self.num_bytes > self.max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= _num_bytes(oldest)


def _num_bytes(frames: Frames | None) -> int:
    return 0 if frames is None else frames.rgb_THWC.nbytes


class Engine:
    """One model. `max_requests`: how many requests may be under way; further ones meet Full.

    To be used in an event loop, between `start` and `stop`.
    """

    def __init__(
        self, model: VideoModel, *, max_requests: int, cache: FrameCache, decoder: ThreadPoolExecutor
    ):
        self.model, self.max_requests = model, max_requests
        self.num_requests = 0
        self._cache, self._decoder = cache, decoder
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        # A model on another server takes several questions at a time, each in a thread.
        self._workers: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(max(1, model.concurrency), thread_name_prefix="model")

    def start(self) -> None:
        self._workers = [asyncio.ensure_future(self._work()) for _ in range(max(1, self.model.concurrency))]

    async def stop(self) -> None:
        """Lets the calls under way end."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    async def ask(self, sample: Sample, *, key: Hashable, frames: Frames | None = None) -> Asked:
        """The answer. `frames`: those that a client sent itself, which are not looked for in the video.

        `key`: what the video's frames depend on besides the model: its content and its segment. Raises Full, and
        UserError as the model's `look` and `answer` do; an answer that is an error is raised too.
        """
        if self.num_requests >= self.max_requests:
            raise Full
        self.num_requests += 1
        try:
            if frames is None:
                frames = await self._cache.get((self.model.name, key), lambda: self._decode(sample.video))
            waiting = _Waiting(sample=sample, frames=frames)
            self._waiting.append(waiting)
            self._arrived.set()
            try:
                return await waiting.asked
            finally:
                with contextlib.suppress(ValueError):  # the model has taken it
                    self._waiting.remove(waiting)
        finally:
            self.num_requests -= 1

    async def _decode(self, video: Video) -> Frames | None:
        return await asyncio.get_running_loop().run_in_executor(self._decoder, self.model.look, video)

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._take()
            answers = asyncio.get_running_loop().run_in_executor(self._threads, self._answers, batch)
            try:
                found = await asyncio.shield(answers)
            except asyncio.CancelledError:
                found = await answers  # the server stops: what runs is finished
                self._give(batch, found)
                raise
            self._give(batch, found)

    def _take(self) -> list[_Waiting]:
        """The oldest request with all others about its frames, or alone if the model takes one at a time."""
        first = self._waiting[0]
        same = [w for w in self._waiting if w.frames is first.frames and w.frames is not None] or [first]
        batch = same if self.model.concurrency == 0 else same[:1]
        for waiting in batch:
            self._waiting.remove(waiting)
        return batch

    def _answers(self, batch: list[_Waiting]) -> list[Asked | Exception]:
        frames, samples = batch[0].frames, [waiting.sample for waiting in batch]
        reduction = self.model.settings.reduction
        try:
            answers = self.model.answer(samples[0].video, samples, seen=frames)
            warning = None if frames is None else self.model.out_of_distribution(frames)
        except Exception as error:  # noqa: BLE001  # it ends these requests, not the thread; each one raises it again
            return [error] * len(batch)
        return [
            UserError(answer.error)
            if answer.error is not None
            else Asked(answer=decide(answer, reduction=reduction), warning=warning, frames=frames)
            for answer in answers
        ]

    def _give(self, batch: list[_Waiting], found: list[Asked | Exception]) -> None:
        for waiting, asked in zip(batch, found, strict=True):
            if waiting.asked.done():  # its client has left
                continue
            if isinstance(asked, Exception):
                waiting.asked.set_exception(asked)
            else:
                waiting.asked.set_result(asked)
