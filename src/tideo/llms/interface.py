"""What a language model that writes must do, and the limits of its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tideo.types import UserError


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How a server is called. Nothing here changes an answer.

    A request that fails with 408, 409, 429, 5xx, by time-out or by a dropped connection is made again up to `retries`
    times, each time after a longer wait with jitter, or as long as the server says. With a `cap`, in the money of
    `price_in` and `price_out` (per million tokens), or `cap_tokens`, no request is begun once that is spent; those
    under way may exceed it.
    """

    concurrency: int = 8
    timeout_s: float = 60.0
    retries: int = 6
    price_in: float | None = None
    price_out: float | None = None
    cap: float | None = None
    cap_tokens: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.timeout_s <= 0 or self.retries < 0:
            raise UserError(
                f"concurrency={self.concurrency}, timeout_s={self.timeout_s}, retries={self.retries}: expected at "
                "least 1, more than 0 and at least 0"
            )
        if self.cap is not None and (self.price_in is None or self.price_out is None):
            raise UserError("a cap needs prices: set price_in and price_out, per million tokens")
        if any(
            limit is not None and limit <= 0 for limit in (self.requests_per_minute, self.tokens_per_minute)
        ):
            raise UserError("requests_per_minute and tokens_per_minute: expected more than 0")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`text` as written, `truncated` where it came to the limit of tokens; tokens are 0 where the server tells none."""

    text: str
    truncated: bool
    tokens_in: int
    tokens_out: int


class Unanswered(UserError):
    """A request that failed for good. Others may fare better."""


class LanguageModel(Protocol):
    """Who writes: a server (llms/openai.py) or an engine in this process (llms/vllm.py), asked from several threads."""

    name: str
    calls: Calls
    spent: float
    tokens: int

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = ...,
        seed: int | None = ...,
        response_format: Mapping[str, Any] | None = ...,
    ) -> Reply: ...

    def cost(self, tokens_in: int, tokens_out: int) -> float: ...
