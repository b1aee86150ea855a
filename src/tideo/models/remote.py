"""Any server that speaks OpenAI's chat protocol (OpenAI, vLLM, Ollama, llama.cpp, Gemini's compatible endpoint).

It is sent grids or panels as images, and its reply is read strictly: one that names no option is a failure.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from tideo import registry
from tideo.models.grid_settings import GridSettings
from tideo.models.grid_sight import GridSight
from tideo.models.prompts import choose_prompt, open_prompt, style
from tideo.models.replies import chosen
from tideo.models.settings import AS_TRAINED, Controls
from tideo.store import key_of
from tideo.types import Answer, Frames, Sample, Stopped, UserError, Video

PREFIX, KEY_VARIABLE = "openai:", "OPENAI_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How a server is called. Nothing here changes an answer.

    A request that fails with 408, 409, 429, 5xx or by time-out is made again up to `retries` times, each time after a
    longer wait. With a `cap`, in the money of `price_in` and `price_out` (per million tokens), no request is begun once
    that is spent; those under way may exceed it.
    """

    concurrency: int = 8
    timeout_s: float = 60.0
    retries: int = 6
    price_in: float | None = None
    price_out: float | None = None
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.timeout_s <= 0 or self.retries < 0:
            raise UserError(
                f"concurrency={self.concurrency}, timeout_s={self.timeout_s}, retries={self.retries}: expected at "
                "least 1, more than 0 and at least 0"
            )
        if self.cap is not None and (self.price_in is None or self.price_out is None):
            raise UserError("a cap needs prices: set price_in and price_out, per million tokens")


class Remote(GridSight):
    """`name` is `openai:NAME@URL`, or `openai:NAME` for OpenAI's own server.

    The key comes from the environment variable OPENAI_API_KEY. Raises UserError where it or the extra is missing.
    """

    controls = frozenset({"num_frames", "shuffled", "blind"})

    def __init__(
        self, name: str, *, settings: GridSettings | None = None, calls: Calls | None = None
    ) -> None:
        model, _, url = name.removeprefix(PREFIX).partition("@")
        if not model or (url and not url.startswith(("http://", "https://"))):
            raise UserError(
                f"model {name!r}: expected openai:NAME@URL, as in openai:llava@http://localhost:8000/v1"
            )
        key = os.environ.get(KEY_VARIABLE)
        if not key and not url:
            raise UserError(
                f"model {name!r}: set {KEY_VARIABLE} in the environment, or name a server as in openai:NAME@URL"
            )
        self.openai = registry.require("openai")
        self.model, self.name, self.settings = model, name, settings or GridSettings()
        self.calls = calls or Calls()
        self.concurrency = self.calls.concurrency
        self.key = key_of(["openai", model, url])
        self.spent = 0.0
        self._lock = threading.Lock()
        self._client = self.openai.OpenAI(
            base_url=url or None,
            api_key=key or "none",
            timeout=self.calls.timeout_s,
            max_retries=self.calls.retries,
        )

    def answer(
        self,
        video: Video,
        samples: Sequence[Sample],
        *,
        controls: Controls = AS_TRAINED,
        frames: Frames | None = None,
    ) -> list[Answer]:
        """One request a question. A reply that names no option, or a request that failed for good, is an error.

        Raises Stopped where no other question can fare better: no server, no right to ask, or the cap.
        """
        frames = frames if frames is not None else self.look(video, controls=controls)
        answers = []
        for shown, asked in self.seen(frames, samples, controls=controls):
            images = self.images(shown, video, controls=controls)
            pts_s = () if shown is None else tuple(shown.pts_s_T.tolist())
            for sample in asked:
                started_s = time.perf_counter()
                answer = self._ask(images, sample, num_frames=len(pts_s))
                answers.append(replace(answer, pts_s=pts_s, seconds=time.perf_counter() - started_s))
        return answers

    def _ask(self, images: Sequence[Image.Image], sample: Sample, *, num_frames: int) -> Answer:
        words = style(self.settings.prompt_style)
        if sample.options:
            prompt = choose_prompt(sample.question, sample.options, style=words)
        else:
            prompt = open_prompt(sample.question, style=words)
        turn = self.settings.turn(prompt, num_images=len(images), num_frames=num_frames)
        try:
            text = self._reply([*map(_image_part, images), {"type": "text", "text": turn}])
        except self.openai.APIStatusError as error:
            if error.status_code in (401, 403, 404):
                raise Stopped(
                    f"{self.name}: {_one_line(error)}; check the model's name, the URL and {KEY_VARIABLE}"
                ) from error
            return Answer(sample_id=sample.id, error=f"{self.name}: {_one_line(error)}")
        except self.openai.APITimeoutError:
            told = f"{self.name}: no answer within {self.calls.timeout_s} s, {self.calls.retries + 1} times"
            return Answer(sample_id=sample.id, error=told)
        except self.openai.APIConnectionError as error:
            raise Stopped(
                f"{self.name}: the server cannot be reached ({error.__cause__ or error}); start it, or check the URL"
            ) from error
        except (self.openai.APIError, json.JSONDecodeError) as error:  # the client lets half a JSON through
            return Answer(sample_id=sample.id, error=f"{self.name}: {_one_line(error)}")
        if text is None:
            return Answer(sample_id=sample.id, error=f"{self.name}: the server's answer holds no text")
        if not sample.options:
            return Answer(sample_id=sample.id, text=text)
        choice = chosen(text, sample.options)
        unread = None if choice is not None else f"the reply names no option: {text[:200]!r}"
        return Answer(sample_id=sample.id, choice=choice, text=text, error=unread)

    def _reply(self, content: Sequence[dict[str, Any]]) -> str | None:
        cap = self.calls.cap
        if cap is not None and self.spent >= cap:
            raise Stopped(
                f"{self.name}: the cap of {cap:g} is reached ({self.spent:.4g} spent); raise it and run this again"
            )
        completion = self._client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": content}],
            max_tokens=self.settings.max_new_tokens,
            temperature=0.0,
        )
        self._count(completion)
        choices = getattr(completion, "choices", None)
        text = choices[0].message.content if choices else None
        return text.strip() if isinstance(text, str) else None

    def _count(self, completion: Any) -> None:
        if self.calls.cap is None:
            return
        usage = getattr(completion, "usage", None)
        if usage is None:
            raise Stopped(
                f"{self.name}: the server does not tell tokens, so a cap cannot be kept; leave it out"
            )
        million_in, million_out = usage.prompt_tokens / 1e6, usage.completion_tokens / 1e6
        with self._lock:
            self.spent += million_in * (self.calls.price_in or 0) + million_out * (self.calls.price_out or 0)


def _image_part(image: Image.Image) -> dict[str, Any]:
    data = io.BytesIO()
    image.save(data, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
