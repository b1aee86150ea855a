"""Any server that speaks OpenAI's chat protocol: OpenAI, vLLM, Ollama, llama.cpp, Gemini's compatible endpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tideo import registry
from tideo.llms.interface import Calls, LanguageModel, Reply, Unanswered
from tideo.llms.rate_limit import Pace
from tideo.types import Stopped, UserError

PREFIX, KEY_VARIABLE = "openai:", "OPENAI_API_KEY"


class Server(LanguageModel):
    """`name` is `openai:NAME@URL`, or `openai:NAME` for OpenAI's own server. Safe to call from several threads.

    The key is read from the environment variable OPENAI_API_KEY. Raises UserError if the name is malformed, OpenAI's
    own server has no key, or the extra is missing.
    """

    def __init__(self, name: str, *, calls: Calls | None = None) -> None:
        model, _, url = name.removeprefix(PREFIX).partition("@")
        if not name.startswith(PREFIX) or not model or (url and not url.startswith(("http://", "https://"))):
            raise UserError(
                f"model {name!r}: expected openai:NAME@URL, as in openai:llava@http://localhost:8000/v1"
            )
        key = os.environ.get(KEY_VARIABLE)
        if not key and not url:
            raise UserError(
                f"model {name!r}: set {KEY_VARIABLE} in the environment, or name a server as in openai:NAME@URL"
            )
        self.openai = registry.require("openai")
        super().__init__(name, calls or Calls())
        self.model, self.url = model, url
        self._pace = Pace(
            requests_per_minute=self.calls.requests_per_minute, tokens_per_minute=self.calls.tokens_per_minute
        )
        self._client = self.openai.OpenAI(
            base_url=url or None,
            api_key=key or "none",
            timeout=self.calls.timeout_s,
            max_retries=self.calls.retries,
        )

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        **options: Any,
    ) -> Reply:
        """One request; `options` are fields of OpenAI's protocol, such as `seed` and `response_format`.

        Raises Unanswered for a request that failed for good, and Stopped if no other can succeed: the server is not
        reached or refuses access, or a cap is spent.
        """
        self._check_caps()
        self._pace.wait()
        try:
            completion = self._client.chat.completions.create(
                model=self.model, messages=messages, max_tokens=max_tokens, temperature=temperature, **options
            )
        except self.openai.APIStatusError as error:
            if error.status_code in (401, 403, 404):
                raise Stopped(
                    f"{self.name}: {_one_line(error)}; check the model's name, the URL and {KEY_VARIABLE}"
                ) from error
            raise Unanswered(f"{self.name}: {_one_line(error)}") from error
        except self.openai.APITimeoutError as error:
            attempts = self.calls.retries + 1
            raise Unanswered(
                f"{self.name}: no answer within {self.calls.timeout_s} s, {attempts} times"
            ) from error
        except self.openai.APIConnectionError as error:
            raise Stopped(
                f"{self.name}: the server cannot be reached ({error.__cause__ or error}); start it, or check the URL"
            ) from error
        except (self.openai.APIError, json.JSONDecodeError) as error:
            # The client does not catch a JSON that was cut short.
            raise Unanswered(f"{self.name}: {_one_line(error)}") from error
        tokens_in, tokens_out = self._count(completion)
        first = next(iter(getattr(completion, "choices", None) or ()), None)
        if first is None or not isinstance(first.message.content, str):
            raise Unanswered(f"{self.name}: the server's reply holds no text")
        return Reply(
            text=first.message.content.strip(),
            truncated=first.finish_reason == "length",
            tokens_in=tokens_in,
            tokens_out=tokens_out,
        )

    def _count(self, completion: Any) -> tuple[int, int]:
        """Add the tokens of a reply, in and out, to the totals and return them."""
        usage = getattr(completion, "usage", None)
        if usage is None:
            if any((self.calls.cap, self.calls.cap_tokens, self.calls.tokens_per_minute)):
                raise Stopped(
                    f"{self.name}: the server does not count tokens, so a cap cannot be kept; leave it out"
                )
            return 0, 0
        tokens_in, tokens_out = usage.prompt_tokens, usage.completion_tokens
        self._add(tokens_in, tokens_out)
        self._pace.used(tokens_in + tokens_out)
        return tokens_in, tokens_out


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
