"""The interface of a language model that writes, and the limits of its calls."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tideo.types import Stopped, UserError


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How a language model is called. None of it changes a reply.

    A request that fails with 408, 409, 429 or 5xx, by time-out or by a dropped connection is repeated up to `retries`
    times, after waits that grow with jitter, or that the server asks for, up to a day. `price_in` and `price_out` are
    for a million tokens. Once `cap` (in the money of the prices) or `cap_tokens` is spent, no request is begun; those
    under way may exceed it. `max_tokens_field` is the parameter that carries the limit of a reply's tokens; None is
    `max_completion_tokens` for OpenAI's own server, whose newer models take no other, and `max_tokens` for all others,
    some of which ignore the new name.
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
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.timeout_s <= 0 or self.retries < 0:
            raise UserError(
                f"concurrency={self.concurrency}, timeout_s={self.timeout_s}, retries={self.retries}: expected at "
                "least 1, more than 0 and at least 0"
            )
        if (self.price_in is None) != (self.price_out is None):
            raise UserError(
                "price_in and price_out, per million tokens, go together: set both (0 is free) or none"
            )
        if self.cap is not None and not self.priced:
            raise UserError("a cap needs prices: set price_in and price_out, per million tokens")
        limits = (self.requests_per_minute, self.tokens_per_minute)
        if any(limit is not None and limit <= 0 for limit in limits):
            raise UserError("requests_per_minute and tokens_per_minute: expected more than 0")

    @property
    def priced(self) -> bool:
        """Whether anything can be said about money."""
        return self.price_in is not None and self.price_out is not None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A language model's reply, `truncated` at the limit of tokens or not.

    `text` may hold thoughts (replies.py), and is empty only if it is truncated. Counts are 0 if the server gives none.
    `tideo` is what Tideo's own server says beside the text.
    """

    text: str
    truncated: bool
    tokens_in: int
    tokens_out: int
    tideo: Mapping[str, Any] | None = None


class Unanswered(UserError):
    """A request that failed for good. Other requests may succeed."""


class LanguageModel(ABC):
    """A server (llms/openai.py) or an engine in this process (llms/vllm.py). Safe to call from several threads.

    `spent` (money) and `tokens` are of all requests so far; a caller may add those of earlier runs.
    """

    def __init__(self, name: str, calls: Calls) -> None:
        self.name, self.calls = name, calls
        self.spent, self.tokens = 0.0, 0
        self._lock = threading.Lock()

    @abstractmethod
    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float | None = 0.0,
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
    ) -> Reply:
        """The reply to a chat. Raises Unanswered for a request that failed, Stopped if no other can succeed.

        Without `temperature` or `seed` the model's own default holds.
        """

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost, in the money of the prices; 0 without prices."""
        return (tokens_in * (self.calls.price_in or 0) + tokens_out * (self.calls.price_out or 0)) / 1e6

    def cost_field(self, tokens_in: int, tokens_out: int) -> dict[str, float]:
        """The field `cost` of a record; none without prices, as nothing is known about money then."""
        return {"cost": self.cost(tokens_in, tokens_out)} if self.calls.priced else {}

    def _check_caps(self) -> None:
        caps = ((self.spent, self.calls.cap, ""), (self.tokens, self.calls.cap_tokens, " tokens"))
        for spent, cap, unit in caps:
            if cap is not None and spent >= cap:
                raise Stopped(
                    f"{self.name}: the cap of {cap:g}{unit} is reached ({spent:.4g} spent); raise it and run this again"
                )

    def _add(self, tokens_in: int, tokens_out: int) -> None:
        """Add the tokens of a reply to the totals."""
        with self._lock:
            self.spent += self.cost(tokens_in, tokens_out)
            self.tokens += tokens_in + tokens_out
