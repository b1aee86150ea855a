"""What a reply over HTTP may take: bytes and time, whatever a server sends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any


class OutOfBounds(Exception):
    """The message completes "the server's reply …"."""


def bounds(*, max_bytes: int, seconds: float) -> Callable[[Any], None]:
    """A hook for the responses of a client of httpx: it is called with a head and bounds the body, errors' too.

    `seconds`: from the head to the body's end; httpx's own time-out begins anew with every byte. A compressed body,
    which `IDENTITY` asks servers not to send, is refused: a small one may fill any memory.
    """

    def bound(response: Any) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise OutOfBounds("is compressed, which was not asked for")
        response.stream = _bounded(response.stream, max_bytes=max_bytes, seconds=seconds)

    return bound


IDENTITY = {"Accept-Encoding": "identity"}


def _bounded(stream: Any, *, max_bytes: int, seconds: float) -> Any:
    class Bounded(type(stream)):  # type: ignore[misc]  # httpx takes only a stream of its own kind
        def __init__(self) -> None:
            pass

        def __iter__(self) -> Iterator[bytes]:
            num_bytes, ends_s = 0, time.monotonic() + seconds
            for block in stream:
                num_bytes += len(block)
                if num_bytes > max_bytes:
                    raise OutOfBounds(f"has more than {max_bytes} bytes, the most expected")
                if time.monotonic() > ends_s:
                    raise OutOfBounds(f"did not end within {seconds:g} s")
                yield block

        def close(self) -> None:
            stream.close()

    return Bounded()
