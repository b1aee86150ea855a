"""A server on loopback that speaks OpenAI's chat protocol and says what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# status, body (bytes as they are, anything else as JSON), and maybe headers
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]
Replies = Callable[[int, dict[str, Any]], Reply]  # number of the request, from 0, and the request


def said(text: object, *, usage: tuple[int, int] | None = (1000, 10), finish: str = "stop") -> Reply:
    message = {"role": "assistant", "content": text}
    body: dict[str, Any] = {
        "id": "x", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
    }  # fmt: skip
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return 200, body


class Server:
    """Answers each request with `replies`; keeps what it was asked."""

    def __init__(self, replies: Replies) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most_at_once = 0
        self.models: Any = None  # the reply to GET …/models
        at_once, lock, kept = 0, threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal at_once
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(kept.requests)
                    kept.requests.append(request)
                    kept.keys.append(self.headers["Authorization"])
                    at_once += 1
                    kept.most_at_once = max(kept.most_at_once, at_once)
                try:
                    status, body, *headers = replies(number, request)
                finally:
                    with lock:
                        at_once -= 1
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                defaults = {"Content-Type": "application/json", "Content-Length": str(len(data))}
                for name, value in (defaults | (headers[0] if headers else {})).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                listed = self.path.endswith("/models") and kept.models is not None
                data = json.dumps(kept.models if listed else {"error": {"message": "not found"}}).encode()
                self.send_response(200 if listed else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:  # a client that gave up waiting
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


Serve = Callable[[Replies], Server]


@contextmanager
def serving() -> Iterator[Serve]:
    """A function that starts servers; they end with the block."""
    servers: list[Server] = []

    def start(replies: Replies) -> Server:
        servers.append(Server(replies))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()
