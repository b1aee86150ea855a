"""The web application: OpenAI's paths, health and metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from tideo import __version__
from tideo.models.interface import VideoModel
from tideo.serve.guard import has_key, is_own_origin
from tideo.serve.media import SPOOL
from tideo.serve.protocol import ChatRequest, Reply, chunks, completion, error_body
from tideo.serve.server import MB, Refused, Server, ServerSettings

log = logging.getLogger(__name__)
Result = TypeVar("Result")
PAGE = Path(__file__).parent / "page"
# The page loads nothing from another host, and no other page may hold it in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "media-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
BODY_TIMEOUT_S, MIN_BYTES_PER_S = 30.0, 100_000  # so that a slow sender does not hold a place for ever
BASE64 = 4 / 3  # how much longer a file is in a data URL


def application(models: Sequence[VideoModel], settings: ServerSettings) -> FastAPI:
    """The application, which holds a temporary folder for the files that requests bring."""
    spool = tempfile.TemporaryDirectory(prefix="tideo-serve-")
    server = Server(models, settings, spool=Path(spool.name))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        await server.stop()
        spool.cleanup()

    app = FastAPI(title="tideo", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
        refused = _refused(request, settings)
        response = await call_next(request) if refused is None else _refusal(refused)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

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
        except Refused as refused:
            return _refusal(refused)
        return JSONResponse({"url": f"{SPOOL}:{name}", "bytes": written.num_bytes})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        number, started_s, model = uuid.uuid4().hex, time.perf_counter(), ""
        try:
            parsed = await _parsed(request, max_bytes=int(settings.max_upload_mb * MB * BASE64) + MB)
            model = parsed.model if parsed.model in server.engines else ""
            reply = await _unless_left(request, server.chat(parsed, number=number))
        except Refused as refused:
            response: Response = _refusal(refused)
        except _Left:
            response = Response(status_code=499)  # nobody reads it
        except Exception:
            log.exception("request %s failed by a fault of this server", number)
            response = _refusal(
                Refused(500, f"a fault of this server; its log names {number}", kind="server_error")
            )
        else:
            response = _replied(reply, parsed)
        seconds = time.perf_counter() - started_s
        server.metrics.done(model=model, status=response.status_code, seconds=seconds)
        log.info("%s %s %d %.3f s", number, model, response.status_code, seconds)
        return response

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _refused(request: Request, settings: ServerSettings) -> Refused | None:
    """Why the client may not ask; None if it may."""
    headers = request.headers
    if not is_own_origin(origin=headers.get("origin"), host=headers.get("host"), served_as=settings.host):
        return Refused(403, "requests from pages of another origin are not answered")
    if settings.key is None or not request.url.path.startswith("/v1/"):
        return None
    if has_key(headers.get("authorization"), settings.key):
        return None
    message = "expected the header Authorization: Bearer KEY, with the key of this server"
    return Refused(401, message, code="invalid_api_key")


class _Left(Exception):
    """The client closed its connection."""


async def _blocks(request: Request, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in blocks. Raises Refused for one that is too long or too slow."""
    num_bytes = 0
    stream = aiter(request.stream())
    ends_s = time.monotonic() + BODY_TIMEOUT_S + max_bytes / MIN_BYTES_PER_S
    while True:
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


async def _parsed(request: Request, *, max_bytes: int) -> ChatRequest:
    """The request in the body. Raises Refused for one that is too long, too slow, or none."""
    body = bytearray()
    async for block in _blocks(request, max_bytes=max_bytes):
        body += block
    try:
        return await asyncio.to_thread(ChatRequest.model_validate_json, bytes(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise Refused(400, f"{place}: {message}" if place else message) from None


async def _unless_left(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled if the client leaves before."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _Left
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(refused: Refused) -> JSONResponse:
    headers = {"Retry-After": "1"} if refused.status == 503 else {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = error_body(str(refused), kind=refused.kind, code=refused.code)
    return JSONResponse(body, status_code=refused.status, headers=headers)


def _replied(reply: Reply, request: ChatRequest) -> Response:
    if not request.stream:
        return JSONResponse(completion(reply, model=request.model))
    with_usage = request.stream_options is not None and request.stream_options.include_usage
    sent = chunks(reply, model=request.model, pieces=[reply.text], with_usage=with_usage)
    lines = [f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in sent]
    return StreamingResponse(iter([*lines, "data: [DONE]\n\n"]), media_type="text/event-stream")
