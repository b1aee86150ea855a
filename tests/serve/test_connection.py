"""Clients that hold a connection and neither ask nor read, over real sockets."""

from __future__ import annotations

import base64
import http.client
import io
import socket
import time

import pytest
from PIL import Image

from serving import Longest

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
ASKS = HEAD + b"\r\n"


@pytest.fixture
def quick(serve, monkeypatch):
    """A server that waits only so long."""
    monkeypatch.setattr("tideo.serve.connection.HEAD_S", 0.3)
    monkeypatch.setattr("tideo.serve.connection.READ_S", 0.3)
    return serve()


def connected(running) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    opened.settimeout(5)
    return opened


def is_cut(opened: socket.socket) -> bool:
    try:
        while opened.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True  # a time-out raises


def drips(opened: socket.socket, *, seconds: float) -> bool:
    """Whether a byte every 50 ms is taken for so long."""
    ends_s = time.monotonic() + seconds
    try:
        while time.monotonic() < ends_s:
            opened.sendall(b"x")
            time.sleep(0.05)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


@pytest.mark.parametrize("start", [b"", b"GET /hea", HEAD])
def test_a_head_that_does_not_end_is_cut_off(quick, start):
    with connected(quick) as slow:
        slow.sendall(start)
        assert is_cut(slow)


@pytest.mark.parametrize("before", [b"", ASKS])
def test_a_head_that_drips_is_cut_off_also_after_a_whole_request(quick, before):
    with connected(quick) as slow:
        slow.sendall(before + HEAD + b"X-Long: ")
        assert not drips(slow, seconds=3)


def test_a_body_that_nobody_reads_is_cut_off(quick):
    with connected(quick) as slow:
        slow.sendall(b"POST /v1/none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert not drips(slow, seconds=3)


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off(quick):
    with connected(quick) as deaf:
        deaf.settimeout(30)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            for _ in range(200):
                deaf.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
                time.sleep(0.1)


def test_the_time_of_a_head_is_not_that_of_the_pause_before_it(quick):
    client = http.client.HTTPConnection("127.0.0.1", quick.port, timeout=5)
    for _ in range(3):
        client.request("GET", "/health")
        assert client.getresponse().read() == b'{"status":"ok"}'
        time.sleep(0.4)
    client.close()


def test_the_time_of_a_head_is_not_that_of_an_answer(monkeypatch, serve):
    monkeypatch.setattr("tideo.serve.connection.HEAD_S", 0.1)
    running = serve(model=Longest(seconds=0.3))
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]
    assert running.post({"model": "longest", "messages": [{"role": "user", "content": parts}]})[0] == 200


def test_further_connections_are_closed_at_once(serve, monkeypatch):
    monkeypatch.setattr("tideo.serve.connection.MAX_CONNECTIONS", 3)
    running = serve()
    held = [connected(running) for _ in range(3)]
    with connected(running) as further:
        assert is_cut(further)
    held.pop().close()
    time.sleep(0.1)
    assert running.get("/health")[0] == 200
    for each in held:
        each.close()


def test_an_upgrade_to_a_web_socket_does_not_pass_the_key_by(locked):
    with connected(locked) as client:
        client.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 401")
