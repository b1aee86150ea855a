"""Connections that cost their owners nothing and hold a place here: uvicorn gives them all the time they want.

Who opens one and sends no whole head of a request, or does not read what it is sent, is cut off; beyond a number of
connections, further ones are closed at once, so that files can still be opened.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
HEAD_S = 20.0  # from the first byte of a request, or the connection, to the end of its head
READ_S = 60.0  # for a client to read what fills its buffer


class Connection(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it on h11, which takes 64 kB of headers at most."""

    _head: asyncio.TimerHandle | None = None
    _read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_closing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_closing()

    def shutdown(self) -> None:
        super().shutdown()
        self._watch_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read = self._read or self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._read = _without(self._read)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._read = _without(self._head), _without(self._read)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """The time for a head runs while no request is under way; a body that nobody reads counts as none."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _without(self._head)
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)
        self._watch_closing()

    def _watch_closing(self) -> None:
        """A transport that closes waits for its client to read what is left."""
        if self.transport.is_closing():
            self._read = self._read or self.loop.call_later(READ_S, self.transport.abort)


def _without(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """No timer: this one is cancelled."""
    if timer is not None:
        timer.cancel()
    return None


def http_server(app: Any, **settings: Any) -> uvicorn.Server:
    """A server of the application over such connections; `settings` as of uvicorn's `Config`."""
    # Without WebSockets, which the application has none of, and which would pass its guard by.
    config = uvicorn.Config(app, http=Connection, ws="none", log_config=None, access_log=False, **settings)
    return uvicorn.Server(config)
