"""What a server answers instead of a reply: whether to wait and for how long, to give up one request, or to stop."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Servers name a parameter that they refuse in `param`, in words, or both:
# https://github.com/openai/openai-python/issues/2046 (OpenAI)
# https://github.com/Vali-98/ChatterUI/issues/227 (Gemini)
_REFUSES = (
    r"(?:not\b|n['’]t\b|only\b|extra\b|un(?:supported|known|recogni[sz]ed|expected|available)|invalid|deprecated"
    r"|forbidden)"
)
# parameter of a request, or role of a message → how errors name it, and the setting that replaces it or leaves it out
_LEFT_OUT_BY = {
    "max_tokens": (r"\bmax_tokens\b", "max_tokens_field=max_completion_tokens"),
    "max_completion_tokens": (r"\bmax_completion_tokens\b", "max_tokens_field=max_tokens"),
    "temperature": (r"\btemperature\b", "temperature=none"),
    "seed": (r"\bseed\b", "use_seed=false"),
    "response_format": (r"\b(?:response_format|json.schema)\b", "use_schema=false"),
    "system": (r"(?:\bsystem.? role\b|\brole\b.{0,40}\bsystem\b)", "use_system=false"),
}
_ONE_TOO_LONG = re.compile(r"context|input tokens|prompt (?:is )?too long", re.IGNORECASE)
_ALL_TOO_LONG = re.compile(r"at most \d+ (?:completion|output) tokens", re.IGNORECASE)
_QUOTA = re.compile(
    r"insufficient[_ ](?:quota|balance|credits?|funds)|billing_(?:hard_limit|not_active)|credit balance|RequestsPerDay",
    re.IGNORECASE,
)
_KEY = re.compile(r"invalid_api_key|api.?key\W+(?:is )?(?:not valid|invalid|expired)", re.IGNORECASE)
_MODEL = re.compile(r"model_not_found|not a valid model", re.IGNORECASE)
_IMAGES = re.compile(
    r"not a multimodal model|image input is not supported|(?:not|n['’]t|that) support image|image_url is only"
    r"|at most 0 image|unknown variant .?image_url",
    re.IGNORECASE,
)
# How servers refuse parts of a message: vLLM, Tideo, llama.cpp, Ollama, OpenAI, transformers, those that check requests
# with pydantic or serde, and any that says so in words.
_VIDEO_PARTS = {"video_url", "input_video"}
_LOCAL_FILES = re.compile(
    r"allowed-local-media-path|--media-dir|media folder|local (?:media )?files? (?:is|are) not", re.IGNORECASE
)
_NO_VIDEO = re.compile(
    r"at most 0 video|unsupported content|invalid message format|video input is not supported"
    r"|(?:not|n['’]t) support (?:the )?(?:video|multi-?modal)s?\b(?! (?:codec|format|file))"
    r"|\bvideos?(?: inputs?| content| modality)? (?:is|are) (?:not |un)supported"
    r"|invalid value: .{0,3}(?:video_url|input_video)|unknown variant .{0,3}(?:video_url|input_video)"
    r"|(?:input (?:tag|should be)|does not match any of the expected tags).{0,160}(?:video_url|input_video)"
    r"|(?:video_url|input_video).{0,160}(?:input (?:tag|should be)|does not match any of the expected tags)"
    r"|incorrect format used for video",
    re.IGNORECASE | re.DOTALL,
)
_FEW_IMAGES = re.compile(
    r"at most \d+ images?\b|only (?:one|1|a single) image|multiple images (?:are|is) not|too many images",
    re.IGNORECASE,
)
_DELAY = re.compile(r'"retryDelay":\s*"([\d.]+)s"')  # Gemini names the wait in the body alone


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """`status` is the HTTP status, or the code in the body of a 200 that is an error; 0 if it has none.

    `message` is one line, `named` the parameter that the server says is at fault.
    """

    status: int
    message: str
    named: str
    body: str

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (408, 409, 429) or self.status >= 500


def read_refusal(status: int, body: bytes) -> Refusal | None:
    """The error in a body; None if it is no error: a JSON without one, in a reply of status 200."""
    text = body.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, list) and len(data) == 1:  # Gemini's
        data = data[0]
    error = None
    if isinstance(data, Mapping):
        error = data.get("error") or (data if data.get("object") == "error" else None)
    if status < 400 and not error:
        return None
    fields = error if isinstance(error, Mapping) else data if isinstance(data, Mapping) else {}
    code = fields.get("code")
    if status < 400:
        status = int(str(code)) if re.fullmatch("[45][0-9]{2}", str(code)) else 0
    said = fields.get("message") or error or fields.get("detail") or text
    message = said if isinstance(said, str) else json.dumps(said)
    return Refusal(
        status=status,
        message=(f"{status}: " if status else "") + (" ".join(message.split())[:300] or "no message"),
        named=str(fields.get("param") or ""),
        body=text[:10_000],
    )


def hopeless(refusal: Refusal, *, sent: Collection[str]) -> str | None:
    """What to do if no other request can succeed, else None.

    `sent`: the request's parameters, and the roles and kinds of parts of its messages.
    """
    if refusal.status == 402 or _QUOTA.search(refusal.body):
        return "the account's quota is spent: add to it or raise its limit, and run this again"
    if _IMAGES.search(refusal.body):
        return "the model takes no images: name one that does"
    if advice := _refused_part(refusal, sent=sent):
        return advice
    if refusal.status in (401, 403, 404, 405) or _KEY.search(refusal.body) or _MODEL.search(refusal.body):
        return "check the model's name, the URL and OPENAI_API_KEY"
    if _ALL_TOO_LONG.search(refusal.message):
        return "ask for fewer tokens: set a lower max_new_tokens for questions, max_tokens for Tideos"
    if refusal.status not in (0, 400, 422) or _ONE_TOO_LONG.search(refusal.message):
        return None
    for name, (named, setting) in _LEFT_OUT_BY.items():
        near = rf"{named}.{{0,60}}{_REFUSES}|{_REFUSES}.{{0,60}}{named}|\"loc\".{{0,30}}{named}"
        in_words = re.search(near, refusal.body, re.IGNORECASE | re.DOTALL)
        if name in sent and (refusal.named == name or in_words):
            return f"the server refuses {name}: set {setting}"
    return None


def _refused_part(refusal: Refusal, *, sent: Collection[str]) -> str | None:
    """What to set if the server takes no such video, or not so many images."""
    if refusal.status not in (0, 400, 403, 404, 415, 422, 500, 501):
        return None
    if "video_url" in sent and _LOCAL_FILES.search(refusal.body):
        return (
            "set video_as=data, or let the server read that folder (vLLM: --allowed-local-media-path, tideo serve: "
            "--media-dir)"
        )
    if _VIDEO_PARTS & set(sent) and _NO_VIDEO.search(refusal.body):
        other = ", for llama.cpp video_as=input_video" if "video_url" in sent else ""
        return f"the server takes no video sent like this: set send=frames{other}"
    if "image_url" in sent and _FEW_IMAGES.search(refusal.body):
        return "set send=grid and panels=1 for one picture, or raise the server's limit (vLLM: --limit-mm-per-prompt)"
    return None


def asked_wait_s(headers: Mapping[str, str], body: str) -> float | None:
    """The seconds that the server asks to wait, None if it does not say."""
    after, in_body = headers.get("retry-after"), _DELAY.search(body)
    waits = (
        _number(headers.get("retry-after-ms"), unit_s=0.001),
        _number(after),
        _until(after),
        _number(in_body[1] if in_body else None),
    )
    return next((seconds for seconds in waits if seconds is not None), None)


def _number(text: str | None, *, unit_s: float = 1.0) -> float | None:
    try:
        seconds = float(text or "") * unit_s
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _until(text: str | None) -> float | None:
    """The seconds until a date of HTTP."""
    try:
        then = parsedate_to_datetime(text or "")
        return max(0.0, (then.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def in_words(seconds: float) -> str:
    """A time as "3 h 20 min", "5 min" or "12 s"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
