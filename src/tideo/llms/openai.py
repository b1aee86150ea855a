"""Any server that speaks OpenAI's chat protocol: OpenAI, vLLM, Ollama, llama.cpp, Gemini's compatible endpoint."""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tideo import registry
from tideo.llms.completion import MAX_BYTES, Unreadable, read_completion, read_json, read_usage
from tideo.llms.interface import Calls, LanguageModel, Reply, Unanswered
from tideo.llms.rate_limit import Pace
from tideo.llms.refusal import asked_wait_s, hopeless, in_words, read_refusal
from tideo.llms.reply_bounds import IDENTITY, OutOfBounds, bounds
from tideo.parallel import sleep
from tideo.types import Stopped, UserError

log = logging.getLogger(__name__)
PREFIX, KEY_VARIABLE = "openai:", "OPENAI_API_KEY"
OPENAI, OPENAI_HOST = "https://api.openai.com/v1", "api.openai.com"
REPORTED_WAIT_S = 5.0  # longer waits are reported
LONGEST_WAIT_S = 25 * 3600.0  # a quota a day is waited for
_NAME = re.compile(r"(?P<model>.+)@(?P<url>https?://.+)")  # a model's name may have @ too, as @cf/meta/llama


class Server(LanguageModel):
    """`name` is `openai:NAME@URL`, or `openai:NAME` for OpenAI's own server. Safe to call from several threads.

    The URL is what follows the last `@http`; a user and password in it are sent and left out of `name`. The key is read
    from the environment variable OPENAI_API_KEY. Raises UserError if the name is malformed, OpenAI's own server has no
    key, or the extra is missing.
    """

    def __init__(self, name: str, *, calls: Calls | None = None) -> None:
        self.model, url = _split(name)
        self.url = _without_password(url)
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key and not url:
            raise UserError(
                f"model {name!r}: set {KEY_VARIABLE} in the environment, or name a server as in openai:NAME@URL"
            )
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"{KEY_VARIABLE} holds characters that no key has: copy it anew")
        self.openai = registry.require("openai")
        super().__init__(f"{PREFIX}{self.model}" + (f"@{self.url}" if url else ""), calls or Calls())
        self._pace = Pace(
            requests_per_minute=self.calls.requests_per_minute, tokens_per_minute=self.calls.tokens_per_minute
        )
        is_openai = urlsplit(url or OPENAI).hostname == OPENAI_HOST
        default_field = "max_completion_tokens" if is_openai else "max_tokens"
        self._answered = False  # whether any request got an answer
        self._max_tokens_field = self.calls.max_tokens_field or default_field
        # The client's own retries end at a Retry-After of two minutes.
        self._client = self.openai.OpenAI(
            base_url=url or OPENAI,
            api_key=key or "none",
            timeout=self.calls.timeout_s,
            max_retries=0,
            default_headers=IDENTITY,
            # Questions and pictures are sent to the server that was named, and to none that it names.
            http_client=self.openai.DefaultHttpxClient(
                follow_redirects=False,
                event_hooks={"response": [bounds(max_bytes=MAX_BYTES, seconds=self.calls.timeout_s)]},
            ),
        )

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float | None = 0.0,
        **options: Any,
    ) -> Reply:
        """One request; `options` are fields of OpenAI's protocol, such as `seed` and `response_format`, or others in
        `extra_body`.

        Raises Unanswered for a request that failed for good, and Stopped if no other can succeed: the server is not
        reached, refuses access or a parameter, its quota is spent, or a cap is.
        """
        self._check_caps()
        request: dict[str, Any] = {self._max_tokens_field: max_tokens, **options}
        if temperature is not None:
            request["temperature"] = temperature
        request |= {"model": self.model, "messages": messages}
        chat = self._client.chat.completions.with_raw_response
        body = self._post(lambda: chat.create(**request), sent=_names(request))
        try:
            data = read_json(body)
            tokens_in, tokens_out = self._count(data)
            completion = read_completion(data)
        except Unreadable as error:
            raise Unanswered(f"{self.name}: the server's reply {error}") from error
        return Reply(
            text=completion.text,
            truncated=completion.truncated,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            tideo=data["tideo"] if isinstance(data.get("tideo"), Mapping) else None,
        )

    def owner(self) -> str | None:
        """The `owned_by` of the model's entry in the server's list of models; None if there is no such list or entry.

        Asked once: some servers fail at the list and answer all the same. Raises as `ask` where no server answers.
        """
        try:
            body = self._attempt(lambda: self._client.models.with_raw_response.list(), sent=())
            data = read_json(body)
        except Unreadable:
            return None
        except _Passing as failure:
            if not self._answered:
                raise failure.for_good from failure
            return None
        except UserError:
            if not self._answered:
                raise
            return None
        listed = data.get("data") if isinstance(data, Mapping) else None
        entries = (
            [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
        )
        owner = next((entry.get("owned_by") for entry in entries if entry.get("id") == self.model), None)
        return owner if isinstance(owner, str) else None

    def _post(self, send: Callable[[], Any], *, sent: Collection[str]) -> bytes:
        """The body of a reply that is no error. A failure that may pass is tried again, up to `retries` times.

        `sent` as for `hopeless`.
        """
        for attempt in range(self.calls.retries + 1):
            self._pace.wait()
            try:
                return self._attempt(send, sent=sent)
            except _Passing as failure:
                if attempt == self.calls.retries:
                    raise failure.for_good from failure
                if failure.wait_s is not None and failure.wait_s > LONGEST_WAIT_S:
                    raise Stopped(f"{failure.for_good}; it asks to wait for more than a day") from failure
                if failure.wait_s is None:
                    sleep(random.uniform(0.75, 1.0) * min(8.0, 0.5 * 2.0 ** min(attempt, 4)))
                elif self._pace.hold(failure.wait_s) and failure.wait_s >= REPORTED_WAIT_S:
                    log.warning("%s; waiting %s, as it asks", failure.for_good, in_words(failure.wait_s))
        raise AssertionError

    def _attempt(self, send: Callable[[], Any], *, sent: Collection[str]) -> bytes:
        try:
            response = send()
            status, headers, body = response.status_code, response.headers, response.content
        except self.openai.APIStatusError as error:
            status, headers, body = error.status_code, error.response.headers, error.response.content
        except self.openai.APIConnectionError as error:
            if isinstance(error.__cause__, OutOfBounds):  # as the client's earlier versions have it
                raise Unanswered(f"{self.name}: the server's reply {error.__cause__}") from error
            failure = self._broken_off(error)
            if isinstance(failure, Stopped) and not self._answered:
                raise failure from error  # nothing is there; a server that starts again has answered before
            raise _Passing(failure) from error
        except OutOfBounds as error:
            raise Unanswered(f"{self.name}: the server's reply {error}") from error
        except (self.openai.OpenAIError, UnicodeError) as error:
            raise Unanswered(f"{self.name}: {' '.join(str(error).split())[:300]}") from error
        self._answered = True
        if 300 <= status < 400:
            to = f" to {headers['location'].partition('?')[0][:200]}" if "location" in headers else ""
            raise Stopped(
                f"{self.name}: {status}: a redirect{to}, which is not followed: name the URL that answers"
            )
        refusal = read_refusal(status, body)
        if refusal is None:
            return bytes(body)
        if advice := hopeless(refusal, sent=sent):
            raise Stopped(f"{self.name}: {refusal.message}; {advice}")
        failure = Unanswered(f"{self.name}: {refusal.message}")
        raise _Passing(failure, wait_s=asked_wait_s(headers, refusal.body)) if refusal.may_pass else failure

    def _broken_off(self, error: Exception) -> UserError:
        """The error of a request that got no answer, for good."""
        cause, attempts = error.__cause__ or error, self.calls.retries + 1
        if type(cause).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"):
            return Stopped(f"{self.name}: the server cannot be reached ({cause}); start it, or check the URL")
        if isinstance(error, self.openai.APITimeoutError):
            return Unanswered(f"{self.name}: no answer within {self.calls.timeout_s} s, {attempts} times")
        return Unanswered(f"{self.name}: the connection broke off ({cause}), {attempts} times")

    def _count(self, data: Any) -> tuple[int, int]:
        """Add the tokens of a reply, in and out, to the totals and return them."""
        usage = read_usage(data)
        if usage is None:
            if any((self.calls.cap, self.calls.cap_tokens, self.calls.tokens_per_minute)):
                raise Stopped(
                    f"{self.name}: the server does not count tokens, so a cap cannot be kept; leave it out"
                )
            return 0, 0
        self._add(*usage)
        self._pace.used(sum(usage))
        return usage


class _Passing(Exception):
    """A failure that may pass after `wait_s`, if the server asks for a wait. `for_good` is raised if it does not."""

    def __init__(self, for_good: UserError, *, wait_s: float | None = None) -> None:
        super().__init__(str(for_good))
        self.for_good, self.wait_s = for_good, wait_s


def _names(request: Mapping[str, Any]) -> set[str]:
    """Its parameters, and the roles and kinds of parts of its messages."""
    messages = request["messages"]
    parts = [
        part for message in messages if isinstance(message["content"], list) for part in message["content"]
    ]
    return {*request, *(message["role"] for message in messages), *(part["type"] for part in parts)}


def _split(name: str) -> tuple[str, str]:
    """The model's name and the URL, "" for OpenAI's own server. Raises UserError."""
    rest = name.removeprefix(PREFIX)
    match = _NAME.fullmatch(rest)
    model, url = (match["model"], match["url"]) if match else (rest, "")
    try:
        parts = urlsplit(url)
        is_url = not url or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is no number
        is_url = False
    if not name.startswith(PREFIX) or not model or not is_url or (not url and "@" in model):
        raise UserError(
            f"model {name!r}: expected openai:NAME@URL, as in openai:llava@http://localhost:8000/v1"
        )
    return model, url


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
