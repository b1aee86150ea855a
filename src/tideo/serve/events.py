"""A chat request under way: its texts as they come, its reply, its client that may leave, and its lines as a stream."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from fastapi import Request

from tideo.serve.metrics import Metrics
from tideo.serve.protocol import ChatRequest, Chunks, Reply, error_body
from tideo.serve.server import Refused

log = logging.getLogger(__name__)


class Left(Exception):
    """The client closed its connection."""


class Call:
    """A chat request as metrics and the log have it, which hold nothing of what was asked."""

    def __init__(self, metrics: Metrics) -> None:
        self.number, self.model = uuid.uuid4().hex, ""
        self._metrics, self._started_s = metrics, time.perf_counter()

    def fault(self) -> Refused:
        """In an `except` block: what is said about a fault of ours, whose words are for the log alone."""
        log.exception("request %s failed by a fault of this server", self.number)
        return Refused(500, f"a fault of this server; its log names {self.number}", kind="server_error")

    def end(self, status: int) -> None:
        seconds = time.perf_counter() - self._started_s
        self._metrics.done(model=self.model, status=status, seconds=seconds)
        log.info("%s %s %d %.3f s", self.number, self.model, status, seconds)


async def events_of(
    request: Request, work: Awaitable[Reply], texts: asyncio.Queue[str]
) -> AsyncIterator[str | Reply]:
    """The texts as they come, then what `work` returns or raises; it is cancelled if the client leaves (Left)."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    tasks: list[asyncio.Future[Any]] = [working, leaving]
    try:
        while True:
            while not texts.empty():
                yield texts.get_nowait()
            if working.done():
                yield working.result()
                return
            if leaving.done():
                raise Left
            tasks[2:] = [asyncio.ensure_future(texts.get())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[2].done():
                yield tasks[2].result()
            tasks[2].cancel()
    finally:
        for task in tasks:
            task.cancel()


async def lines(
    first: str | Reply, events: AsyncIterator[str | Reply], request: ChatRequest, call: Call
) -> AsyncIterator[str]:
    """Server-sent events. After the first word an error is an event too, since the status is sent."""
    with_usage = request.stream_options is not None and request.stream_options.include_usage
    chunks = Chunks(model=request.model, with_usage=with_usage)
    status, sent = 499, False

    def line(content: dict[str, Any]) -> str:
        return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"

    try:
        yield line(chunks.first())
        async for event in _after(first, events):
            if isinstance(event, str):
                sent = True
                yield line(chunks.text(event))
                continue
            status = 200
            for chunk in [*([] if sent else [chunks.text(event.text)]), *chunks.last(event)]:
                yield line(chunk)
            yield "data: [DONE]\n\n"
    except Left:
        return
    except Exception as error:  # noqa: BLE001  # its words are for the log, not for a client
        refused = error if isinstance(error, Refused) else call.fault()
        status = refused.status
        yield line(error_of(refused))
    finally:
        call.end(status)


async def _after(first: str | Reply, events: AsyncIterator[str | Reply]) -> AsyncIterator[str | Reply]:
    yield first
    async for event in events:
        yield event


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def error_of(refused: Refused) -> dict[str, Any]:
    return error_body(str(refused), kind=refused.kind, code=refused.code)
