"""A request → its reply: the models, and what they share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tideo.models.grid.frames import GridModel
from tideo.models.interface import AS_TRAINED, VideoModel
from tideo.models.prompts import letters
from tideo.scoring import scores
from tideo.serve.budget import Budget, Held, NoRoom
from tideo.serve.engine import Answered, Engine, FrameCache, Full
from tideo.serve.frames import data_url, frames_of, thumbnails
from tideo.serve.media import Media, Spool
from tideo.serve.metrics import Metrics
from tideo.serve.protocol import ChatRequest, ImagePart, Reply
from tideo.store.files import content_key
from tideo.types import Frames, Sample, Stopped, UserError, Video

MB = 1 << 20
BASE64 = 4 / 3  # how much longer a file is in a data URL


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the owner of a server sets. `key`: the one that clients must send; None asks for none."""

    host: str = "127.0.0.1"
    key: str | None = None
    media_dir: Path | None = None
    allowed_hosts: frozenset[str] = frozenset()
    max_upload_mb: int = 512
    max_requests: int = 256  # of one model, waiting and under way
    timeout_s: float = 600.0  # of one request
    cache_mb: int = 1024  # of decoded frames
    num_decoders: int = 2  # threads
    num_openers: int = 16  # threads that fetch and write the files of requests
    read_s: float = 60.0  # of one video

    @property
    def max_body(self) -> int:
        """The bytes of a chat request that holds the largest file."""
        return int(self.max_upload_mb * MB * BASE64) + MB


class Refused(Exception):
    """A request that gets an error object: its HTTP status, and its kind in OpenAI's words."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code = status, kind, code


class Server:
    """`spool`: a folder for files that requests bring. Between `start` and `stop`, in an event loop."""

    def __init__(self, models: Sequence[VideoModel], settings: ServerSettings, *, spool: Path) -> None:
        self.settings, self.metrics, self.began_s = settings, Metrics(), int(time.time())
        self._cache = FrameCache(max_bytes=settings.cache_mb * MB, at_once=settings.num_decoders)
        self._decoder = ThreadPoolExecutor(settings.num_decoders, thread_name_prefix="decode")
        self.engines = {
            model.name: Engine(
                model,
                max_requests=settings.max_requests,
                cache=self._cache,
                decoder=self._decoder,
                read_s=settings.read_s,
            )
            for model in models
        }
        # Apart from asyncio's own threads: a slow host must not hold up requests that fetch nothing.
        self._opener = ThreadPoolExecutor(settings.num_openers, thread_name_prefix="open")
        self.bodies = Budget(max_bytes=2 * settings.max_body, what="the bodies")
        self._pictures = Budget(max_bytes=settings.cache_mb * MB, what="the images")
        max_bytes = settings.max_upload_mb * MB
        self.media = Media(
            Spool(spool, max_bytes=4 * max_bytes),
            media_dir=settings.media_dir,
            allowed_hosts=settings.allowed_hosts,
            max_bytes=max_bytes,
        )
        self.metrics.watch_cache(lambda: self._cache.num_bytes)
        for name, engine in self.engines.items():
            self.metrics.watch(name, lambda engine=engine: engine.num_requests)  # type: ignore[misc]

    def start(self) -> None:
        for engine in self.engines.values():
            engine.start()

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines.values()))
        for pool in (self._decoder, self._opener):
            pool.shutdown(wait=False, cancel_futures=True)

    async def chat(
        self, request: ChatRequest, *, number: str, body: Held, on_text: Callable[[str], None] | None = None
    ) -> Reply:
        """The reply. `on_text` gets an open question's as it is written, in another thread. Raises Refused.

        `body`: what the request holds of `bodies`; it is closed once the files are open and their URLs forgotten.
        """
        engine = self.engines.get(request.model)
        if engine is None:
            names = ", ".join(self.engines)
            raise Refused(
                404, f"model {request.model[:100]!r}: this server has {names}", code="model_not_found"
            )
        started_s = time.perf_counter()
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                return await self._reply(
                    request, engine, number=number, body=body, started_s=started_s, on_text=on_text
                )
        except Full:
            raise Refused(503, "too many requests wait: ask again later", kind="server_error") from None
        except NoRoom as error:
            raise Refused(503, str(error), kind="server_error") from error
        except TimeoutError:
            seconds = self.settings.timeout_s
            raise Refused(504, f"no answer within {seconds:g} s", kind="server_error") from None
        except Stopped as error:
            raise Refused(502, str(error), kind="server_error") from error
        except UserError as error:
            raise Refused(400, self.media.as_named(str(error))) from error

    async def _reply(
        self,
        request: ChatRequest,
        engine: Engine,
        *,
        number: str,
        body: Held,
        started_s: float,
        on_text: Callable[[str], None] | None,
    ) -> Reply:
        files = ExitStack()
        try:
            # Shielded: a thread cannot be stopped, and the files it opens must be closed after it.
            opening = asyncio.get_running_loop().run_in_executor(
                self._opener, self._open, request, files, number
            )
            try:
                sample, key, frames = await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(lambda done: files.close())
                raise
            request.forget_media()
            body.close()
            answered = await engine.ask(
                sample, key=key, frames=frames, max_new_tokens=request.max_new_tokens, on_text=on_text
            )
        finally:
            if opening.done():
                files.close()
        seconds = time.perf_counter() - started_s
        reply = _reply_of(answered, engine.model, request, seconds)
        if not request.pictures:
            return reply
        pictures = await asyncio.to_thread(_pictures, answered, engine.model, sample.video)
        return replace(reply, tideo=reply.tideo | pictures)

    def _open(
        self, request: ChatRequest, files: ExitStack, number: str
    ) -> tuple[Sample, Hashable, Frames | None]:
        """The question about its video, what the video's frames depend on, and the frames that it brings itself."""
        paths = [files.enter_context(self.media.file(part.url)) for part in request.media]
        times_s = [part.time_s for part in request.media if isinstance(part, ImagePart)]
        path = paths[0]
        # What the spool holds is named by the hash of all of its content.
        key = path.name if path.parent == self.media.spool.folder else content_key(path)
        video = Video(id=number, path=str(path), start_s=request.start, end_s=request.end)
        sample = Sample(id=number, video=video, question=request.question, options=request.all_options)
        if not times_s:
            return sample, (key, request.start, request.end), None
        known_s = [time_s for time_s in times_s if time_s is not None]
        hold = files.enter_context(self._pictures.held()).add
        return sample, None, frames_of(paths, times_s=known_s or None, video_id=number, hold=hold)


def _reply_of(answered: Answered, model: VideoModel, request: ChatRequest, seconds: float) -> Reply:
    """As `tideo ask --json` has it, in our own object."""
    answer, listener = answered.answer, answered.listener
    text, options = answer.text, request.all_options
    if answer.choice is not None:
        text = options[answer.choice] if request.lettered is None else letters(len(options))[answer.choice]
    scored = scores(answer.loglikelihoods, answer.num_tokens, reduction=model.settings.reduction)
    return Reply(
        text=text,
        finish_reason="length" if listener.truncated and answer.choice is None else "stop",
        usage=_usage(answered),
        tideo={
            "choice": answer.choice,
            "options": list(options),
            "lettered": request.lettered is not None,
            "loglikelihoods": list(scored),
            "model": model.name,
            "pts_s": list(answer.pts_s),
            "seconds": round(seconds, 3),
            "warning": answered.warning,
        },
    )


def _usage(answered: Answered) -> dict[str, int] | None:
    """Tokens, frames included; of the chosen option where there are options. None if the model does not know them."""
    listener, choice = answered.listener, answered.answer.choice
    num_reply = listener.reply_tokens
    if choice is not None and listener.option_tokens is not None:
        num_reply = listener.option_tokens[choice]
    if listener.prompt_tokens is None or num_reply is None:
        return None
    return {
        "prompt_tokens": listener.prompt_tokens,
        "completion_tokens": num_reply,
        "total_tokens": listener.prompt_tokens + num_reply,
    }


def _pictures(answered: Answered, model: VideoModel, video: Video) -> dict[str, Any]:
    """Small pictures of the frames looked at, and of the grid where the model sees one."""
    frames = answered.frames
    if frames is None:
        return {"pictures": [], "grid": None}
    grids = model.images(frames, video, controls=AS_TRAINED) if isinstance(model, GridModel) else []
    return {
        "pictures": thumbnails(frames, answered.answer.pts_s),
        "grid": data_url(grids[0]) if len(grids) == 1 else None,
    }
