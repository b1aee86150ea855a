"""What reading a video may take, where videos come from strangers: time, pixels of a frame, and bytes of all frames."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tideo.types import VideoError

MAX_PIXELS = 16384 * 8192  # above 8K and 12K; damaged headers claim more, and 16 such frames fill any memory


class OutOfTime(BaseException):
    """The time of all reading is over: no Exception, as those count as damage of one packet or as one lost video."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`max_pixels` of one frame; `max_bytes` of the frames kept of one video; `seconds` from now until the last one is
    decoded. None is no limit."""

    max_pixels: int = MAX_PIXELS
    max_bytes: int | None = None
    seconds: float | None = None
    began_s: float = field(default_factory=time.monotonic)

    @property
    def of_decoder(self) -> dict[str, str]:
        """FFmpeg's option; none for the usual limit, beyond which the error is ours."""
        return {} if self.max_pixels == MAX_PIXELS else {"max_pixels": str(self.max_pixels)}

    def check_time(self, name: str) -> None:
        """Raise OutOfTime if the time is over."""
        if self.seconds is not None and time.monotonic() - self.began_s > self.seconds:
            raise OutOfTime(
                f"video {name}: reading it takes more than {self.seconds:g} s; send a shorter or smaller one"
            )


_LIMITS: ContextVar[Limits] = ContextVar("limits")
_WITHOUT = Limits()


def current() -> Limits:
    return _LIMITS.get(_WITHOUT)


@contextmanager
def limited(*, seconds: float, max_pixels: int, max_bytes: int) -> Iterator[None]:
    """Videos opened in this context, in this thread, are read under these limits. Raises VideoError beyond them."""
    token = _LIMITS.set(Limits(seconds=seconds, max_pixels=max_pixels, max_bytes=max_bytes))
    try:
        yield
    except OutOfTime as error:
        raise VideoError(str(error)) from None
    finally:
        _LIMITS.reset(token)
