"""`tideo serve`: models behind OpenAI's chat protocol, and a page to ask them."""

from __future__ import annotations

import gc
import logging
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from tideo.commands.options import Features, ModelArgs, pairs
from tideo.types import UserError

log = logging.getLogger(__name__)
KEY_VARIABLE = "TIDEO_API_KEY"


def serve(
    model: Annotated[list[str] | None, typer.Option(metavar="M", help="As for tideo ask; repeat it.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    media_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Videos that requests may name by file:NAME.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A host whose videos may be fetched; repeat it.")
    ] = None,
    model_args: ModelArgs = "",
    features: Features = None,
    max_upload_mb: Annotated[int, typer.Option(min=1, metavar="MB", help="The largest video taken.")] = 512,
) -> None:
    """Answer questions about videos over HTTP: OpenAI's chat protocol, and a page at /."""
    from tideo.registry import require

    require("uvicorn")
    require("fastapi")
    if media_dir is not None and not media_dir.is_dir():
        raise UserError(f"--media-dir {media_dir}: there is no such folder")
    from tideo.models.interface import NO_POOLS
    from tideo.models.load import load_model
    from tideo.serve.app import application
    from tideo.serve.connection import http_server
    from tideo.serve.guard import checked_key
    from tideo.serve.server import ServerSettings
    from tideo.startup import starting

    key = os.environ.get(KEY_VARIABLE)
    settings = ServerSettings(
        host=host,
        key=None if key is None else checked_key(key, variable=KEY_VARIABLE),
        media_dir=media_dir,
        allowed_hosts=frozenset(map(str.lower, allow_host or ())),
        max_upload_mb=max_upload_mb,
    )
    listening = _listening(host, port)  # before the models, which take longer
    if settings.key is None and host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("whoever reaches %s can ask: set %s to a key that clients send", host, KEY_VARIABLE)
    names = list(dict.fromkeys(model or ["dollhouse-topa"]))
    with listening:
        with starting():
            models = [load_model(name, args=pairs(model_args)) for name in names]
            for each in models:
                if features is not None:
                    if not each.chooses:
                        raise UserError(f"{each.name}: {NO_POOLS}")
                    each.keep_pools(str(features))
                each.prepare([])  # loads a selector's encoder and checks its folder before a request comes
            app = application(models, settings)
        gc.freeze()  # what is loaded stays: looking through it for cycles would hold every request up, now and then
        print(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}", flush=True)
        http_server(app).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror}): choose another --port"
        ) from error
