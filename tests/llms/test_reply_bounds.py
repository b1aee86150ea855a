"""What a hostile server costs: bounded bytes and time, and nothing is sent where it leads."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chat_server import said, serving
from tideo.llms.interface import Calls, Unanswered
from tideo.llms.openai import Server
from tideo.types import Stopped

Handler = BaseHTTPRequestHandler
ASKED = [{"role": "user", "content": "Which?"}]


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that gives up is what these tests are about."""


@pytest.fixture
def model() -> Iterator[Callable[[Callable[[Handler], None]], Server]]:
    """A function: how a server answers → the model there."""
    servers = []

    def start(answer: Callable[[Handler], None]) -> Server:
        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                answer(self)

            def log_message(self, *args: object) -> None:
                pass

        servers.append(Quiet(("127.0.0.1", 0), Answers))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return Server(
            f"openai:m@http://127.0.0.1:{servers[-1].server_port}/v1", calls=Calls(retries=0, timeout_s=1)
        )

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def endless(
    block: bytes, *, status: int = 200, every_s: float = 0.0, **headers: str
) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        while True:
            handler.wfile.write(block)
            time.sleep(every_s)

    return answer


@pytest.mark.parametrize("status", [200, 500])
def test_an_endless_reply_is_given_up(model, status):
    with pytest.raises(Unanswered, match="has more than 16777216 bytes"):
        model(endless(b" " * 2**20, status=status)).ask(ASKED, max_tokens=8)


def test_a_reply_that_drips_is_given_up(model):
    began_s = time.monotonic()
    with pytest.raises(Unanswered, match="did not end within 1 s"):
        model(endless(b" ", every_s=0.05)).ask(ASKED, max_tokens=8)
    assert time.monotonic() - began_s < 5


def test_a_compressed_reply_may_be_a_bomb(model):
    block = gzip.compress(os.urandom(10))
    with pytest.raises(Unanswered, match="is compressed, which was not asked for"):
        model(endless(block, Content_Encoding="gzip")).ask(ASKED, max_tokens=8)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_is_sent_where_a_server_leads(status):
    with serving() as start:
        other = start(lambda n, request: said("stolen"))
        leads = start(lambda n, request: (status, b"", {"Location": other.url + "/chat/completions?key=1"}))
        with pytest.raises(
            Stopped, match=f"{status}: a redirect to {other.url}/chat/completions, which is not"
        ):
            Server(f"openai:m@{leads.url}").ask(ASKED, max_tokens=8)
        assert other.requests == []


@pytest.mark.parametrize("wait", ["100000", "1e308"])
def test_a_wait_of_more_than_a_day_ends_the_run(wait):
    with serving() as start:
        server = start(lambda n, request: (429, b"{}", {"Retry-After": wait}))
        with pytest.raises(Stopped, match="to wait for more than a day"):
            Server(f"openai:m@{server.url}").ask(ASKED, max_tokens=8)


def test_a_list_of_models_with_ids_that_are_no_text():
    with serving() as start:
        server = start(lambda n, request: said("A"))
        server.models = json.loads('{"data": [{"id": ["m"]}, {"id": {}}, {"id": "m", "owned_by": "vllm"}]}')
        assert Server(f"openai:m@{server.url}").owner() == "vllm"
