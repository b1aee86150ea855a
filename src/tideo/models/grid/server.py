"""A model behind OpenAI's chat protocol that answers about videos.

It is sent pictures or the video, and its reply is read strictly: one that names no option is a failure. Tideo's own
server is sent the options by themselves and says which one it chose.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tideo.llms.interface import Calls, Reply, Unanswered
from tideo.llms.openai import Server
from tideo.models.grid.frames import GridModel, frames_of
from tideo.models.grid.message_parts import Part, VideoParts, image_part
from tideo.models.grid.server_settings import ServerSettings
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.taken import TakenCheck
from tideo.models.interface import AS_TRAINED, Asked, Controls, VideoInput
from tideo.models.listener import Listener
from tideo.models.prompts import choose_prompt, open_prompt, style
from tideo.replies import choice_of_reply, without_thoughts
from tideo.store.files import key_of
from tideo.types import Answer, Frames, Sample, Stopped, Video
from tideo.video.clip import is_whole

__all__ = ["Remote", "ServerSettings"]
_SENT = {  # what is added to the error of a request
    "frames": " (send=frames; frames=N sends fewer)",
    "video": " (send=video; if the server takes no video, set send=frames)",
}
TIDEO = "tideo"  # who owns the models of Tideo's own server


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shown:
    """What is sent of a segment: parts of a message, the times of the frames in them, and fields of the request."""

    parts: Sequence[Part]
    pts_s: Sequence[float]
    fields: Mapping[str, Any]


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
        if self.settings.look == "video":
            self.controls = frozenset({"blind"})
            self.no_other_controls = (
                "the server chooses the frames of send=video; send=frames has this control"
            )
        self._videos = VideoParts(video_as=self.settings.video_as, max_mb=self.settings.max_video_mb)
        self._taken = TakenCheck(self._probe, name=self.name)
        self._lock = threading.Lock()

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
        shown = self._shown(frames_of(asked.seen), asked.video, controls=asked.controls)
        for sample in asked.samples:
            started_s = time.perf_counter()
            listener = asked.listeners.get(sample.id) or Listener()
            answer = self._ask(shown, sample, listener=listener)
            answers.append(replace(answer, seconds=time.perf_counter() - started_s))
        return answers

    @property
    def chooses(self) -> bool:
        """Whether frames are chosen for each question here; of send=video the server chooses."""
        return self.settings.look != "video" and super().chooses

    def look(
        self, video: Video, *, controls: Controls = AS_TRAINED, sample: Sample | None = None
    ) -> Frames | None:
        """The frames that are sent; of a video that is sent itself none, but it is opened. Raises VideoError."""
        if self.settings.look != "video":
            return super().look(video, controls=controls, sample=sample)
        if controls.shows_video:
            is_whole(video)
        return None

    @cached_property
    def _is_tideos(self) -> bool:
        return not self.settings.shows_grids and self.server.owner() == TIDEO

    def _asks_tideo(self) -> bool:
        """Whether the server is Tideo's own. It is asked once, and not for the pictures that earlier versions sent."""
        with self._lock:
            tideos = self._is_tideos
        if tideos and self.settings.prompt_style != ServerSettings.prompt_style:
            raise Stopped(f"{self.name}: Tideo's server words the questions itself: leave prompt_style out")
        if tideos and self.settings.video_as not in ("data", "path"):
            raise Stopped(
                f"{self.name}: Tideo's server takes other parts: set video_as=data or video_as=path"
            )
        return tideos

    def _shown(self, frames: Frames | None, video: Video, *, controls: Controls) -> _Shown:
        tideos = self._asks_tideo()
        if self.settings.look == "video" and controls.shows_video:
            cuts = tideos and Path(video.path).is_file()  # a folder of pictures is made a file first
            part = self._videos.part(video, whole=cuts)
            given = {"start": video.start_s, "end": video.end_s} if cuts else {}
            fields = {name: time_s for name, time_s in given.items() if time_s is not None}
            return _Shown(parts=[part], pts_s=(), fields=fields)
        pts_s = () if frames is None else tuple(frames.pts_s_T.tolist())
        if tideos and not pts_s:
            raise Stopped(
                f"{self.name}: Tideo's server answers about videos only: leave the control blind out"
            )
        images = self.images(frames, video, controls=controls)
        times_s = pts_s if tideos else [None] * len(images)
        parts = [image_part(image, time_s=time_s) for image, time_s in zip(images, times_s, strict=True)]
        return _Shown(parts=parts, pts_s=pts_s, fields={})

    def _probe(self, content: Sequence[Part]) -> Reply:
        """A short reply, for the count of the prompt's tokens."""
        return self._send(content, max_tokens=min(16, self.settings.max_new_tokens))

    def _send(self, content: Sequence[Part], *, max_tokens: int, **fields: Any) -> Reply:
        extra = {"extra_body": fields} if fields else {}
        return self.server.ask(
            [{"role": "user", "content": list(content)}],
            max_tokens=max_tokens, temperature=self.settings.temperature, **extra,
        )  # fmt: skip

    def _ask(self, shown: _Shown, sample: Sample, *, listener: Listener) -> Answer:
        try:
            ask = self._ask_tideo if self._asks_tideo() else self._ask_in_words
            return ask(shown, sample, listener=listener)
        except Unanswered as error:
            sent = _SENT.get(self.settings.look, "")
            return Answer(sample_id=sample.id, pts_s=tuple(shown.pts_s), error=f"{error}{sent}")

    def _ask_tideo(self, shown: _Shown, sample: Sample, *, listener: Listener) -> Answer:
        """The options travel by themselves, so that the model there scores them as it does on its own machine."""
        fields = dict(shown.fields) | ({"options": list(sample.options)} if sample.options else {})
        content = [*shown.parts, {"type": "text", "text": sample.question}]
        reply = self._send(content, max_tokens=self._limit(sample, listener), **fields)
        _note(reply, listener)
        about = reply.tideo or {}
        choice, pts_s = about.get("choice"), about.get("pts_s") or list(shown.pts_s)
        if sample.options and (type(choice) is not int or choice not in range(len(sample.options))):
            raise Unanswered(f"{self.name}: the server chose no option: {reply.text[:200]!r}")
        if not isinstance(pts_s, list) or not all(_is_time(time_s) for time_s in pts_s):
            raise Unanswered(f"{self.name}: the server's pts_s are no times: {str(pts_s)[:100]}")
        return Answer(
            sample_id=sample.id,
            choice=choice if sample.options else None,
            text=reply.text,
            pts_s=tuple(map(float, pts_s)),
            prompt_tokens=reply.tokens_in or None,
        )

    def _limit(self, sample: Sample, listener: Listener) -> int:
        """How many tokens a reply may have; one that names an option is this model's own affair."""
        limit: int = self.settings.max_new_tokens
        return limit if sample.options else listener.limit(limit, room=math.inf)

    def _ask_in_words(self, shown: _Shown, sample: Sample, *, listener: Listener) -> Answer:
        words = style(self.settings.prompt_style)
        if sample.options:
            prompt = choose_prompt(sample.question, sample.options, style=words)
        else:
            prompt = open_prompt(sample.question, style=words)
        num_images = sum(part["type"] == "image_url" for part in shown.parts)
        turn = self.settings.turn(prompt, num_images=num_images, pts_s=shown.pts_s)
        text_part = {"type": "text", "text": turn}
        limit = self._limit(sample, listener)
        reply = self._send([*shown.parts, text_part], max_tokens=limit)
        _note(reply, listener)
        if reply.tideo is None:
            self._taken.check(shown.parts, text_part, reply)
        elif self.settings.shows_grids:
            raise Stopped(
                f"{self.name}: this is Tideo's server, which takes a video or its frames: set send=video"
            )
        else:
            raise Unanswered(f"{self.name}: this is Tideo's server, but its list of models did not say so")
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
        return Answer(
            sample_id=sample.id,
            choice=choice,
            text=kept,
            error=failure,
            pts_s=tuple(shown.pts_s),
            prompt_tokens=reply.tokens_in or None,
        )


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _note(reply: Reply, listener: Listener) -> None:
    listener.truncated = reply.truncated
    if reply.tokens_in:  # 0: the server gives none
        listener.prompt_tokens, listener.reply_tokens = reply.tokens_in, reply.tokens_out
