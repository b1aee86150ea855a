"""A model behind OpenAI's chat protocol that answers about videos.

It is sent grids or panels as images, and its reply is read strictly: one that names no option is a failure.
"""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from tideo.llms.interface import Calls, Unanswered
from tideo.llms.openai import Server
from tideo.models.grid.frames import GridModel
from tideo.models.grid.settings import GridSettings
from tideo.models.interface import AS_TRAINED, Asked, Controls, VideoInput
from tideo.models.listener import Listener
from tideo.models.prompts import choose_prompt, open_prompt, style
from tideo.replies import choice_of_reply, without_thoughts
from tideo.store.files import key_of
from tideo.types import Answer, Sample, UserError, Video


@dataclass(frozen=True, kw_only=True)
class ServerSettings(GridSettings):
    """`temperature` None leaves it to the server: some models take no other than their own."""

    temperature: float | None = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature is not None and self.temperature < 0:
            raise UserError(f"temperature={self.temperature}: expected at least 0, or none")


class Remote(GridModel):
    """`name` as for `Server`."""

    settings: ServerSettings
    controls = frozenset({"num_frames", "shuffled", "blind"})
    paid = True

    def __init__(
        self, name: str, *, settings: GridSettings | None = None, calls: Calls | None = None
    ) -> None:
        self.server = Server(name, calls=calls)
        self.name, self.settings = self.server.name, ServerSettings(**vars(settings or GridSettings()))
        self.concurrency = self.server.calls.concurrency
        self.key = key_of(["openai", self.server.model, self.server.url])

    def usage(self) -> str:
        """Tokens, and money if both prices are set."""
        spent = f", {self.server.spent:.4g} spent at these prices" if self.server.calls.priced else ""
        return f"{self.server.tokens:,} tokens{spent}"

    def answer(
        self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, controls: Controls = AS_TRAINED
    ) -> list[Answer]:
        """One request a question. A reply that names no option, or a request that failed for good, is an error.

        Raises Stopped where no other question can fare better, as `Server.ask` does.
        """
        return self._answers(Asked(video=video, samples=samples, seen=seen, controls=controls))

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        """As `answer`, of each. A reply comes to its listener as a whole."""
        return [self._answers(a) for a in asked]

    def _answers(self, asked: Asked) -> list[Answer]:
        answers = []
        for shown, about in self.shown(asked.seen, asked.samples, controls=asked.controls):
            images = self.images(shown, asked.video, controls=asked.controls)
            pts_s = () if shown is None else tuple(shown.pts_s_T.tolist())
            for sample in about:
                started_s = time.perf_counter()
                listener = asked.listeners.get(sample.id) or Listener()
                answer = self._ask(images, sample, num_frames=len(pts_s), listener=listener)
                answers.append(replace(answer, pts_s=pts_s, seconds=time.perf_counter() - started_s))
        return answers

    def _ask(
        self, images: Sequence[Image.Image], sample: Sample, *, num_frames: int, listener: Listener
    ) -> Answer:
        words = style(self.settings.prompt_style)
        if sample.options:
            prompt = choose_prompt(sample.question, sample.options, style=words)
        else:
            prompt = open_prompt(sample.question, style=words)
        turn = self.settings.turn(prompt, num_images=len(images), num_frames=num_frames)
        content = [*map(_image_part, images), {"type": "text", "text": turn}]
        limit = self.settings.max_new_tokens
        if not sample.options:  # a reply that names an option is this model's own affair
            limit = listener.limit(limit, room=math.inf)
        try:
            reply = self.server.ask(
                [{"role": "user", "content": content}],
                max_tokens=limit,
                temperature=self.settings.temperature,
            )
        except Unanswered as error:
            return Answer(sample_id=sample.id, error=str(error))
        listener.truncated = reply.truncated
        if reply.tokens_in:  # 0: the server gives none
            listener.prompt_tokens, listener.reply_tokens = reply.tokens_in, reply.tokens_out
        text = without_thoughts(reply.text)
        choice, failure = None, None
        # What a cut reply would have gone on to say may be against its first words; a description is only shorter.
        if text is None and not reply.truncated:
            failure = f"the reply ends within a thought: {reply.text[:200]!r}"
        elif text is None or (reply.truncated and (sample.options or not text)):
            failure = (
                f"the reply was cut at {limit} tokens, set a higher max_new_tokens: {reply.text[:200]!r}"
            )
        elif not text:
            failure = "the reply holds thoughts and no text"
        elif sample.options:
            choice = choice_of_reply(text, sample.options)
            failure = None if choice is not None else f"the reply names no option: {text[:200]!r}"
        # What is no description must not be scored as one.
        kept = text or (reply.text if sample.options else "")
        return Answer(sample_id=sample.id, choice=choice, text=kept, error=failure)


def _image_part(image: Image.Image) -> dict[str, Any]:
    data = io.BytesIO()
    image.save(data, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}
