"""OpenAI's chat protocol as this server speaks it: the request, checked, and the objects of the reply.

Videos are named as vLLM and SGLang have it, by a part `video_url`; several parts `image_url` are the frames of one. Our
own fields: `options`, `start`, `end` and `pictures` in the request, `time_s` beside a frame's `image_url`, and the
object `tideo` in the reply. A field that would change the answer and has no effect here is refused, not passed over.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tideo.serve.lettered import Lettered, lettered

MAX_OPTIONS = 100
MAX_QUESTION = 20_000  # characters, of the whole dialogue
MAX_OF_OPTIONS = (
    8_000  # bytes, of all of them: a model scores them together, in memory that grows with the square
)
MAX_MESSAGES, MAX_PARTS = 1000, 2000
MAX_ERROR = 1000  # characters of an error's message, which may quote the request


class _Strict(BaseModel):
    """Of a million faults one is named: a list of all of them would cost more than any answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, body: Any) -> Any:
        return _without_others(body, cls.model_fields)


def _without_others(body: Any, fields: Collection[str]) -> Any:
    if isinstance(body, dict):
        unknown = next((name for name in body if name not in fields), None)
        if unknown is not None:
            raise ValueError(f"{unknown[:60]}: this server has no such field")
    return body


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class Url(_Strict):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"  # OpenAI's; a frame is taken as the model takes frames


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: Url
    time_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @property
    def url(self) -> str:
        return self.image_url.url


class VideoPart(_Strict):
    type: Literal["video_url"]
    video_url: Url

    @property
    def url(self) -> str:
        return self.video_url.url


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: list[Part] = Field(max_length=MAX_PARTS, fail_fast=True)
    name: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text_is_a_part(cls, content: Any) -> Any:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def media(self) -> list[ImagePart | VideoPart]:
        return [part for part in self.content if not isinstance(part, TextPart)]


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


# Fields of the protocol that have no effect here, with the values that ask for none.
WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "temperature": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
# Fields that say who asks, or draw what is not drawn here: decoding is greedy.
IGNORED = ("user", "metadata", "store", "seed", "service_tier", "safety_identifier", "prompt_cache_key")


class ChatRequest(_Strict):
    """The body of a request. Raises pydantic's ValidationError."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    options: list[str] = Field(default=[], max_length=MAX_OPTIONS, fail_fast=True)
    start: float | None = Field(default=None, allow_inf_nan=False)
    end: float | None = Field(default=None, allow_inf_nan=False)
    pictures: bool = False  # whether the reply holds small pictures of the frames, and the grid

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, body: Any) -> Any:
        """Leaves out what asks for nothing."""
        if not isinstance(body, dict):
            return body
        kept = {}
        for name, value in body.items():
            if name in IGNORED or value is None:
                continue
            if name in WITHOUT_EFFECT:
                if not _is_one_of(value, WITHOUT_EFFECT[name]):
                    neutral = " or ".join(repr(each) for each in WITHOUT_EFFECT[name])
                    raise ValueError(f"{name} has no effect here: leave it out, or set {neutral}")
                continue
            kept[name] = value
        return _without_others(kept, cls.model_fields)

    @field_validator("options")
    @classmethod
    def _two_or_more(cls, options: list[str]) -> list[str]:
        if len(options) == 1 or not all(option.strip() for option in options):
            raise ValueError("expected two or more, none empty, or none at all for a free answer")
        if len(set(options)) < len(options):
            raise ValueError("expected options that are all different")
        return options

    @model_validator(mode="after")
    def _one_question(self) -> ChatRequest:
        if self.messages[-1].role != "user" or not self.messages[-1].text.strip():
            raise ValueError("messages: expected a question of the user's as the last one")
        media = self.media
        if any(message.media for message in self.messages if message.role != "user"):
            raise ValueError("messages: only the user's may hold a video or images")
        if len(media) > 1 and any(isinstance(part, VideoPart) for part in media):
            raise ValueError(
                "messages: expected one video, or images alone, which are the frames of one video"
            )
        if not media:
            raise ValueError("messages: no video; expected a part video_url, or parts image_url")
        timed = [part.time_s for part in media if isinstance(part, ImagePart) and part.time_s is not None]
        if timed and (len(timed) < len(media) or timed != sorted(set(timed))):
            raise ValueError(
                "messages: expected a time_s for every image or for none, each after the one before"
            )
        if not isinstance(media[0], VideoPart) and (self.start is not None or self.end is not None):
            raise ValueError("start and end cut a video; leave images out instead")
        if (length := sum(len(option.encode()) for option in self.all_options)) > MAX_OF_OPTIONS:
            raise ValueError(f"options: {length} bytes of UTF-8; expected at most {MAX_OF_OPTIONS} together")
        if len(self.question) > MAX_QUESTION:
            raise ValueError(f"messages: {len(self.question)} characters; expected at most {MAX_QUESTION}")
        return self

    @property
    def media(self) -> list[ImagePart | VideoPart]:
        return [part for message in self.messages for part in message.media]

    def forget_media(self) -> None:
        """Leaves the URLs out once their files are open: half a gigabyte of base64 need not wait for the answer."""
        for part in self.media:
            (part.image_url if isinstance(part, ImagePart) else part.video_url).url = ""

    @cached_property
    def lettered(self) -> Lettered | None:
        """The question and the options in the last message's text, where the request has no field `options`."""
        return None if "options" in self.model_fields_set else lettered(self.messages[-1].text)

    @property
    def all_options(self) -> tuple[str, ...]:
        return tuple(self.options) if self.lettered is None else self.lettered.options

    @property
    def max_new_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def question(self) -> str:
        """The last message's text; after the earlier turns, if there are any, each behind the name of its role."""
        turns = [(m.role.capitalize(), m.text.strip()) for m in self.messages if m.text.strip()]
        if self.lettered is not None:
            turns[-1] = (turns[-1][0], self.lettered.question)
        if len(turns) == 1:
            return turns[0][1]
        return "\n".join(f"{role}: {text}" for role, text in turns)


def _is_one_of(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Whether it asks for nothing. True is no 1 here, nor false a 0, though Python calls them equal."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in neutral)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is sent back: the message's text, why it ended, the tokens, and our own object."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: dict[str, int] | None
    tideo: dict[str, Any]


def completion(reply: Reply, *, model: str) -> dict[str, Any]:
    """The object of a reply that is not streamed."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    return _head("chat.completion", model) | {"choices": [choice], "usage": reply.usage, "tideo": reply.tideo}


class Chunks:
    """The objects of one streamed reply; the last one with a choice holds our own object."""

    def __init__(self, *, model: str, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._head = _head("chat.completion.chunk", model) | ({"usage": None} if with_usage else {})

    def first(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text})

    def last(self, reply: Reply) -> list[dict[str, Any]]:
        end = self._chunk({}, reply.finish_reason) | {"tideo": reply.tideo}
        return [end, *([self._head | {"choices": [], "usage": reply.usage}] if self._with_usage else [])]

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head | {"choices": [choice]}


def _head(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def error_body(
    message: str, *, kind: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """OpenAI's error object."""
    short = message if len(message) <= MAX_ERROR else f"{message[:MAX_ERROR]}…"
    return {"error": {"message": short, "type": kind, "param": param, "code": code}}
