"""The web application: OpenAI's paths, health and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tideo import __version__
from tideo.models.interface import VideoModel
from tideo.serve.budget import Held, NoRoom
from tideo.serve.events import Call, Left, error_of, events_of, lines
from tideo.serve.guard import has_key, is_own_origin
from tideo.serve.media import SPOOL
from tideo.serve.protocol import ChatRequest, Reply, completion
from tideo.serve.server import MB, Refused, Server, ServerSettings
from tideo.serve.spool_folder import SpoolFolder

log = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
# The page loads nothing from another host, and no other page may hold it in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "media-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
# A body may be so much later than one that comes at this rate, so that a slow sender does not hold a place for ever.
BODY_TIMEOUT_S, MIN_BYTES_PER_S = 30.0, 10_000
SMALL_BODY = 1 << 16  # is read in less time than another thread takes to begin


def application(models: Sequence[VideoModel], settings: ServerSettings) -> FastAPI:
    """The application, which holds a temporary folder for the files that requests bring."""
    spool = SpoolFolder()
    server = Server(models, settings, spool=spool.path)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        await server.stop()
        spool.close()

    app = FastAPI(title="tideo", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    app.add_middleware(_Guard, settings=settings)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(server.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models_() -> dict[str, Any]:
        about = {"object": "model", "created": server.began_s, "owned_by": "tideo"}
        return {"object": "list", "data": [{"id": name} | about for name in server.engines]}

    @app.post("/v1/media")
    async def media(request: Request) -> Response:
        """Keeps the body, a file, for later requests, which name it by the URL that is returned."""
        limit = settings.max_upload_mb * MB
        try:
            with server.media.spool.writing() as written:
                async for block in _blocks(request, max_bytes=limit):
                    await asyncio.to_thread(written.write, block)
                if not written.num_bytes:
                    raise Refused(400, "the body is empty; expected a video")
                name = server.media.spool.take(written)
        except NoRoom as error:
            return _refusal(Refused(503, str(error), kind="server_error"))
        except Refused as refused:
            return _refusal(refused)
        return JSONResponse({"url": f"{SPOOL}:{name}", "bytes": written.num_bytes})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        call = Call(server.metrics)
        with server.bodies.held() as body:
            try:
                parsed = await _parsed(request, body, max_bytes=settings.max_body)
                call.model = parsed.model if parsed.model in server.engines else ""
                texts: asyncio.Queue[str] = asyncio.Queue()
                loop = asyncio.get_running_loop()

                def on_text(text: str) -> None:
                    loop.call_soon_threadsafe(texts.put_nowait, text)

                streamed = on_text if parsed.stream else None
                work = server.chat(parsed, number=call.number, body=body, on_text=streamed)
                events = events_of(request, work, texts)
                first = await anext(events)  # an error before the first word still has its status
            except Left:
                response = Response(status_code=499)
            except Refused as refused:
                response = _refusal(refused)
            except Exception:  # noqa: BLE001  # its words are for the log, not for a client
                response = _refusal(call.fault())
            else:
                if parsed.stream:
                    content = lines(first, events, parsed, call)
                    return StreamingResponse(content, media_type="text/event-stream")
                assert isinstance(first, Reply)
                response = JSONResponse(completion(first, model=parsed.model))
        call.end(response.status_code)
        return response

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _refusal(
            Refused(error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}")
        )

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _refusal(Refused(500, "a fault of this server; its log has more", kind="server_error"))

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


class _Guard:
    """Answers who may not ask, and adds headers for browsers to every reply."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        refused = _refused(Request(scope), self._settings)
        await (self._app if refused is None else _refusal(refused))(scope, receive, sent)


def _refused(request: Request, settings: ServerSettings) -> Refused | None:
    """Why the client may not ask; None if it may."""
    headers = request.headers
    if not is_own_origin(origin=headers.get("origin"), host=headers.get("host"), served_as=settings.host):
        return Refused(403, "requests from pages of another origin are not answered")
    # Not `request.url`, into which the header Host goes too.
    if settings.key is None or not request.scope["path"].startswith("/v1/"):
        return None
    if has_key(headers.get("authorization"), settings.key):
        return None
    message = "expected the header Authorization: Bearer KEY, with the key of this server"
    return Refused(401, message, code="invalid_api_key")


async def _blocks(request: Request, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in blocks. Raises Refused for one that is too long or too slow."""
    num_bytes = 0
    stream = aiter(request.stream())
    began_s = time.monotonic()
    while True:
        ends_s = began_s + BODY_TIMEOUT_S + num_bytes / MIN_BYTES_PER_S
        try:
            async with asyncio.timeout(min(BODY_TIMEOUT_S, ends_s - time.monotonic())):
                block = await anext(stream, None)
        except TimeoutError:
            raise Refused(408, "the body arrives too slowly") from None
        except ClientDisconnect:
            raise Refused(400, "the body ends before its length") from None
        if block is None:
            return
        num_bytes += len(block)
        if num_bytes > max_bytes:
            raise Refused(413, f"the body is larger than the {max_bytes} bytes that this server takes")
        yield block


async def _parsed(request: Request, held: Held, *, max_bytes: int) -> ChatRequest:
    """The request in the body. Raises Refused for one that is too long, too slow, or none, or has no room now."""
    body = bytearray()
    async for block in _blocks(request, max_bytes=max_bytes):
        try:
            held.add(len(block))
        except NoRoom as error:
            raise Refused(503, str(error), kind="server_error") from error
        body += block
    try:
        if len(body) <= SMALL_BODY:
            return ChatRequest.model_validate_json(body)
        return await asyncio.to_thread(ChatRequest.model_validate_json, body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise Refused(400, f"{place}: {message}" if place else message) from None


def _refusal(refused: Refused) -> JSONResponse:
    headers = {"Retry-After": "1"} if refused.status == 503 else {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_of(refused), status_code=refused.status, headers=headers)
