"""Files from other hosts: real servers on loopback, good and bad."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tideo.serve.download import download, is_public
from tideo.types import UserError

Handler = BaseHTTPRequestHandler


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that gives up is what these tests are about."""


@pytest.fixture
def host() -> Iterator[Callable[[Callable[[Handler], None]], str]]:
    """A function that starts a server which answers as told, and returns its HOST:PORT."""
    servers = []

    def start(answer: Callable[[Handler], None]) -> str:
        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *args: object) -> None:
                pass

        servers.append(Quiet(("127.0.0.1", 0), Answers))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetched(url: str, *allowed: str, max_bytes: int = 1000, timeout_s: float = 5.0) -> bytes:
    return b"".join(download(url, allowed_hosts=allowed, max_bytes=max_bytes, timeout_s=timeout_s))


def send(content: bytes, *, length: int | None = None) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def redirect(url: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_fetches_a_file_of_an_allowed_host(host):
    place = host(send(b"a video"))
    assert fetched(f"http://{place}/v.mp4?key=1", place) == b"a video"


def test_fetches_from_no_other_host(host):
    place = host(send(b"a secret"))
    with pytest.raises(UserError, match=r"--allow-host 127\.0\.0\.1"):
        fetched(f"http://{place}/v.mp4", "videos.example.org")


@pytest.mark.parametrize(
    "url",
    [
        "http://videos.example.org@127.0.0.1/v.mp4",  # the host is what follows the @
        "http://127.0.0.1#videos.example.org/v.mp4",
        "http://videos.example.org.evil.example/v.mp4",
        "http://videos.example.org:22/v.mp4",
        "http://videos.example.org:x/v.mp4",
        "http:///v.mp4",
        "ftp://videos.example.org/v.mp4",
    ],
)
def test_a_host_is_allowed_by_its_whole_name(url):
    with pytest.raises(UserError, match=r"no such host|expected http"):
        fetched(url, "videos.example.org")


def test_an_allowed_name_must_lead_to_a_public_address(host):
    place = host(send(b"a secret"))
    name = place.replace("127.0.0.1", "localhost")
    with pytest.raises(UserError, match="not a public one"):
        fetched(f"http://{name}/v.mp4", name)


def test_a_redirect_leads_to_allowed_hosts_only(host):
    inner = host(send(b"a secret"))
    outer = host(redirect(f"http://{inner}/admin"))
    with pytest.raises(UserError, match="no such host"):
        fetched(f"http://{outer}/v.mp4", outer)
    assert fetched(f"http://{outer}/v.mp4", outer, inner) == b"a secret"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1",
        "::", "fe80::1%1", "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_an_address_that_is_public(address):
    assert is_public(address)


def test_a_url_with_letters_beyond_ascii(host):
    paths = []

    def answer(handler: Handler) -> None:
        paths.append(handler.path)
        send(b"a video")(handler)

    place = host(answer)
    assert fetched(f"http://{place}/ä b%20c.mp4?q=ö", place) == b"a video"
    assert paths == ["/%C3%A4%20b%20c.mp4?q=%C3%B6"]


@pytest.mark.parametrize("url", ["http://[::1/v.mp4", "http://[x]/", "https://["])
def test_a_malformed_url(url):
    with pytest.raises(UserError, match=r"malformed|expected http|no such host"):
        fetched(url, "videos.example.org")


def test_a_redirect_to_a_malformed_url(host):
    place = host(redirect("http://[::1/"))
    with pytest.raises(UserError, match="malformed"):
        fetched(f"http://{place}/v.mp4", place)


def test_redirects_without_end_are_given_up(host):
    place = host(lambda handler: redirect("/again")(handler))
    with pytest.raises(UserError, match="more than 3 redirects"):
        fetched(f"http://{place}/v.mp4", place)


def test_a_file_that_is_too_large_is_given_up(host):
    place = host(send(b"x" * 5000))
    with pytest.raises(UserError, match="larger than the 1000 bytes"):
        fetched(f"http://{place}/v.mp4", place)


def test_an_endless_file_is_given_up(host):
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 100)

    place = host(answer)
    with pytest.raises(UserError, match="larger than the 1000 bytes"):
        fetched(f"http://{place}/v.mp4", place)


def drip(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def drip_head(handler: Handler) -> None:
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [drip, drip_head])
def test_a_host_that_drips_is_given_up_after_the_whole_time(host, answer):
    place = host(answer)
    started_s = time.monotonic()
    with pytest.raises(UserError, match=r"did not send it within 0.3 s"):
        fetched(f"http://{place}/v.mp4", place, timeout_s=0.3)
    assert time.monotonic() - started_s < 3


def test_a_file_cut_short_is_no_file(host):
    place = host(send(b"half", length=8))
    with pytest.raises(UserError, match="4 more expected"):
        fetched(f"http://{place}/v.mp4", place)


def test_another_status_is_an_error(host):
    place = host(lambda handler: handler.send_error(404))
    with pytest.raises(UserError, match="answered 404"):
        fetched(f"http://{place}/v.mp4", place)
