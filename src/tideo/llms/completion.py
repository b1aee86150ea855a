"""The body of a chat completion → its text and tokens. Nothing is assumed of what a server sends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 16 * 2**20  # far beyond the longest reply of any model
_CUT = re.compile("length|max_tokens|max_output_tokens")  # OpenAI's, Anthropic's and Gemini's words for it
_BROKEN_OFF = {"error", "abort"}  # OpenRouter's and vLLM's
_HELD_BACK = {"content_filter", "safety", "recitation"}  # OpenAI's and Gemini's


class Unreadable(ValueError):
    """A body that holds no reply; the message completes "the server's reply …"."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """`text` is empty if the limit of tokens cut the reply before its first word."""

    text: str
    truncated: bool


def read_json(body: bytes) -> Any:
    """Raises Unreadable for a body that is not JSON in UTF-8, such as an HTML page or half a JSON."""
    if not body.strip():
        raise Unreadable("is empty")
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        start = " ".join(body[:100].decode("utf-8", "replace").split())
        raise Unreadable(f"is not JSON ({error}): {start!r}; check that the URL ends as in …/v1") from error


def read_completion(body: Any) -> Completion:
    """The reply in a body. Raises Unreadable if it has no text, unless the limit of tokens left no place for one.

    Of content in parts only the text counts. The fields `reasoning_content` and `reasoning`, in which servers put a
    model's thoughts, are no part of the reply.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list) or not choices:
        raise Unreadable("holds no choice")
    read = {_of_choice(choice) for choice in choices}
    if len(read) > 1:
        raise Unreadable(f"holds {len(choices)} choices that differ, where one was asked for")
    return read.pop()


def _of_choice(choice: Any) -> Completion:
    choice = choice if isinstance(choice, Mapping) else {}
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    finish = str(choice.get("finish_reason") or "").lower()
    if refusal := message.get("refusal"):
        raise Unreadable(f"is a refusal: {str(refusal)[:200]!r}")
    if choice.get("error") or finish in _BROKEN_OFF:
        raise Unreadable(f"broke off ({str(choice.get('error') or finish)[:200]})")
    if finish in _HELD_BACK:
        raise Unreadable("was held back by the server's content filter")
    text, truncated = _text(message.get("content")).strip(), bool(_CUT.search(finish))
    if not text and not truncated:
        thoughts = message.get("reasoning_content") or message.get("reasoning")
        raise Unreadable("holds thoughts and no text" if thoughts else "holds no text")
    return Completion(text=text, truncated=truncated)


def _text(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts; "" if it has none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def read_usage(body: Any) -> tuple[int, int] | None:
    """The tokens of the prompt and of the reply, None unless the server counts both."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    tokens_in, tokens_out = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return None if tokens_in is None or tokens_out is None else (tokens_in, tokens_out)


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value < 1e15 and value == int(value) else None
