"""Requests → answers of one model, which is asked by one thread: requests that wait together share a call.

A request passes two stages. Its frames are decoded in a thread, once however many requests wait for them, and stay in
a cache. Then it waits for the model. If the oldest request has options, the model takes it with every other about the
same frames, and with others up to its batch; one without options is written token by token, so it is taken alone. The
features that a model keeps of `Frames` live as long as the frames do.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakSet, ref

from tideo.models.batching import in_batches
from tideo.models.interface import Asked, VideoModel
from tideo.models.listener import Listener
from tideo.scoring import decide
from tideo.types import Answer, Frames, Sample, UserError
from tideo.video.limits import limited

MAX_PIXELS = 8192 * 4320  # of a frame: 8K


class Full(Exception):
    """As many requests wait as the server lets wait."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer, its choice made; one line that warns of frames unlike what the model was trained on; the frames;
    and what the model noted for its listener."""

    answer: Answer
    warning: str | None
    frames: Frames | None
    listener: Listener


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    sample: Sample
    frames: Frames | None
    listener: Listener
    answered: asyncio.Future[Answered]


class FrameCache:
    """The frames of videos by key, the least recently used left out beyond `max_bytes` of pictures.

    Those whose questions still wait for the model stay in memory when they are left out. While all together take more
    than twice `max_bytes`, no further video is decoded; `at_once` are decoded at a time.
    """

    def __init__(self, *, max_bytes: int, at_once: int = 2) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._turns = asyncio.Semaphore(at_once)
        self._in_memory: WeakSet[Frames] = WeakSet()
        self._kept: OrderedDict[Hashable, Frames] = OrderedDict()
        self._decoding: dict[Hashable, asyncio.Task[Frames | None]] = {}

    async def get(self, key: Hashable, decode: Callable[[], Awaitable[Frames | None]]) -> Frames | None:
        """The frames of that key. Those who ask for the same one at the same time wait for one decoding."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        task = self._decoding.get(key)
        if task is None:
            task = self._decoding[key] = asyncio.ensure_future(self._decoded(decode))
            task.add_done_callback(lambda done: self._keep(key, done))
        # A client that leaves must not end a decoding for which others wait.
        return await asyncio.shield(task)

    async def _decoded(self, decode: Callable[[], Awaitable[Frames | None]]) -> Frames | None:
        async with self._turns:
            while sum(frames.num_bytes for frames in self._in_memory) > 2 * self.max_bytes:
                await asyncio.sleep(0.02)
            frames = await decode()
        if frames is not None:
            self._in_memory.add(frames)
        return frames

    def _keep(self, key: Hashable, done: asyncio.Task[Frames | None]) -> None:
        del self._decoding[key]
        if done.cancelled() or done.exception() is not None or (frames := done.result()) is None:
            return
        self._kept[key] = frames
        self.num_bytes += frames.num_bytes
        while self.num_bytes > self.max_bytes and len(self._kept) > 1:
            self.num_bytes -= self._kept.popitem(last=False)[1].num_bytes


class Engine:
    """One model. `max_requests`: how many requests may be under way; further ones meet Full. `read_s`: how long a
    video may take to read.

    To be used in an event loop, between `start` and `stop`.
    """

    def __init__(
        self,
        model: VideoModel,
        *,
        max_requests: int,
        cache: FrameCache,
        decoder: ThreadPoolExecutor,
        read_s: float,
    ):
        self.model, self.max_requests = model, max_requests
        self.num_requests = 0
        self._cache, self._decoder, self._read_s = cache, decoder, read_s
        self._waiting: deque[_Waiting] = deque()
        self._warnings: WeakKeyDictionary[Frames, str | None] = WeakKeyDictionary()
        self._size = model.batch_size()
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

    async def ask(
        self,
        sample: Sample,
        *,
        key: Hashable,
        frames: Frames | None = None,
        max_new_tokens: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answered:
        """The answer. `frames`: those that a client sent itself, which are not looked for in the video.

        `key`: what the video's frames depend on besides the model: its content and its segment. `max_new_tokens` and
        `on_text` as of `Listener`; the latter is called in the model's thread. Raises Full, and UserError as the
        model's `look` and `answer` do; an answer that is an error is raised too.
        """
        if self.num_requests >= self.max_requests:
            raise Full
        self.num_requests += 1
        try:
            if frames is None:
                asked = sample.question if self.model.chooses else None  # for which frames are chosen
                frames = await self._cache.get((self.model.name, key, asked), lambda: self._decode(sample))
            answered = asyncio.get_running_loop().create_future()
            # Through a weak reference: in a circle with its answer, frames would stay until Python looks for circles.
            asker = ref(answered)
            listener = Listener(
                max_new_tokens=max_new_tokens,
                on_text=on_text,
                has_left=lambda: (a := asker()) is None or a.done(),
            )
            waiting = _Waiting(sample=sample, frames=frames, listener=listener, answered=answered)
            self._waiting.append(waiting)
            self._arrived.set()
            try:
                return await answered
            finally:
                if waiting in self._waiting:  # the model has not taken it
                    self._waiting.remove(waiting)
        finally:
            self.num_requests -= 1

    async def _decode(self, sample: Sample) -> Frames | None:
        return await asyncio.get_running_loop().run_in_executor(self._decoder, self._look, sample)

    def _look(self, sample: Sample) -> Frames | None:
        with limited(seconds=self._read_s, max_pixels=MAX_PIXELS, max_bytes=self._cache.max_bytes):
            return self.model.look_for(sample)

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
        first = self._waiting[0]
        if self.model.concurrency or not first.sample.options:
            batch = [first]
        else:
            closed = [w for w in self._waiting if w.sample.options]
            batch = [w for w in closed if w is first or (w.frames is first.frames and w.frames is not None)]
            others = [w for w in closed if w not in batch]
            batch += others[: max(0, self._size.now - len(batch))]
        for waiting in batch:
            self._waiting.remove(waiting)
        return batch

    def _answers(self, batch: list[_Waiting]) -> list[Answered | Exception]:
        found: dict[_Waiting, Answered | Exception] = {}
        try:
            units = {self._asked(waiting): waiting for waiting in _by_frames(batch)}
            for answered in in_batches(units, self._answer, size=self._size, weight=lambda a: len(a.samples)):
                for unit, answers in answered:
                    found |= self._results(units[unit], answers)
        except Exception as error:  # noqa: BLE001  # it ends these requests, not the thread; each one raises it again
            return [found.get(waiting, error) for waiting in batch]
        return [found[waiting] for waiting in batch]

    def _asked(self, waiting: Sequence[_Waiting]) -> Asked:
        return Asked(
            video=waiting[0].sample.video,
            samples=[w.sample for w in waiting],
            seen=waiting[0].frames,
            listeners={w.sample.id: w.listener for w in waiting},
        )

    def _answer(self, asked: Sequence[Asked], at_once: int) -> list[list[Answer]]:
        return self.model.answer_many(asked, at_once=at_once)

    def _results(
        self, waiting: Sequence[_Waiting], answers: Sequence[Answer] | UserError
    ) -> dict[_Waiting, Answered | Exception]:
        if isinstance(answers, UserError):
            return dict.fromkeys(waiting, answers)
        frames, reduction = waiting[0].frames, self.model.settings.reduction
        if frames is not None and frames not in self._warnings:
            self._warnings[frames] = self.model.out_of_distribution(frames)
        return {
            w: UserError(answer.error)
            if answer.error is not None
            else Answered(
                answer=decide(answer, reduction=reduction),
                warning=None if frames is None else self._warnings[frames],
                frames=frames,
                listener=w.listener,
            )
            for w, answer in zip(waiting, answers, strict=True)
        }

    def _give(self, batch: list[_Waiting], found: list[Answered | Exception]) -> None:
        for waiting, answered in zip(batch, found, strict=True):
            if waiting.answered.done():  # its client has left
                continue
            if isinstance(answered, Exception):
                waiting.answered.set_exception(answered)
            else:
                waiting.answered.set_result(answered)


def _by_frames(batch: Sequence[_Waiting]) -> list[tuple[_Waiting, ...]]:
    """Those about the same frames together; without frames, each by itself."""
    groups: dict[int, list[_Waiting]] = {}
    for waiting in batch:
        key = id(waiting if waiting.frames is None else waiting.frames)
        groups.setdefault(key, []).append(waiting)
    return [tuple(group) for group in groups.values()]
