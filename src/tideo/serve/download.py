"""A file from another host, for a request that names it: only from hosts that the server's owner allowed.

The address is looked up once, checked, and connected to as checked, so that neither a redirect nor a name that
changes its address leads into the server's own network (CWE-918, server-side request forgery).
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import SplitResult, urljoin, urlsplit

from tideo.types import UserError

MAX_REDIRECTS = 3
BLOCK_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)


def download(
    url: str, *, allowed_hosts: Collection[str], max_bytes: int, timeout_s: float
) -> Iterator[bytes]:
    """The file's bytes in blocks. `timeout_s` is for the whole of it, so a slow sender cannot hold a place for ever.

    `allowed_hosts`: names as in "videos.example.org", or with a port, "127.0.0.1:9000"; a name without one allows the
    ports 80 and 443. Raises UserError for any other host, an allowed name with an address that is not public, more
    than `max_bytes`, or a host that does not answer in time.
    """
    ends_s = time.monotonic() + timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        parts = urlsplit(url)
        left_s = max(0.001, ends_s - time.monotonic())
        with (
            closing(_connection(parts, allowed_hosts, timeout_s=left_s)) as connection,
            _cut(connection.sock, left_s),
        ):
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", target, headers={"Accept": "*/*", "User-Agent": "tideo"})
                response = connection.getresponse()
                location = response.getheader("Location")
                if response.status in REDIRECTS and location:
                    url = urljoin(url, location)
                    continue
                if response.status != 200:
                    raise UserError(f"{_shown(parts)}: the host answered {response.status}, expected 200")
                yield from _blocks(response, parts, max_bytes=max_bytes)
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
                return
            except (OSError, http.client.HTTPException) as error:
                late = time.monotonic() >= ends_s
                reason = f"the host did not send it within {timeout_s:g} s" if late else _reason(error)
                raise UserError(f"{_shown(parts)}: it cannot be read ({reason})") from error
    raise UserError(f"{_shown(parts)}: more than {MAX_REDIRECTS} redirects; give the file's own address")


@contextmanager
def _cut(open_socket: socket.socket, left_s: float) -> Iterator[None]:
    """Cuts the connection after that time: a socket's own time-out begins anew with every byte."""
    timer = threading.Timer(left_s, lambda: _shut(open_socket))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(open_socket: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        open_socket.shutdown(socket.SHUT_RDWR)


def _blocks(response: http.client.HTTPResponse, parts: SplitResult, *, max_bytes: int) -> Iterator[bytes]:
    num_bytes = 0
    while block := response.read1(BLOCK_BYTES):
        num_bytes += len(block)
        if num_bytes > max_bytes:
            raise UserError(
                f"{_shown(parts)}: it is larger than the {max_bytes} bytes that this server takes"
            )
        yield block


def _connection(
    parts: SplitResult, allowed_hosts: Collection[str], *, timeout_s: float
) -> http.client.HTTPConnection:
    """A connection to an address of the host that was checked."""
    try:
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # a port that is no number
        host, port = "", 0
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise UserError(f"{_shown(parts)}: expected http://HOST/… or https://HOST/…, without a user's name")
    named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with_port = named in allowed_hosts
    if not with_port and not (host in allowed_hosts and port in (80, 443)):
        raise UserError(
            f"{_shown(parts)}: this server fetches from no such host; its owner allows one by --allow-host {host}"
        )
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{_shown(parts)}: the host is not known ({_reason(error)})") from error
    for family, kind, protocol, _, address in found:
        # An owner who allows an address itself, as in "127.0.0.1:9000", means it; a name must lead outside.
        if not _is_address(host) and not ipaddress.ip_address(address[0]).is_global:
            raise UserError(f"{_shown(parts)}: the host's address is not a public one")
        plain = socket.socket(family, kind, protocol)
        plain.settimeout(timeout_s)
        try:
            plain.connect(address)
            # Without a certificate for the host's name the connection fails here.
            secure = parts.scheme == "https"
            context = ssl.create_default_context() if secure else None
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
            connection.sock = context.wrap_socket(plain, server_hostname=host) if context else plain
            return connection
        except OSError as error:
            plain.close()
            failed = error
    raise UserError(f"{_shown(parts)}: the host cannot be reached ({_reason(failed)})") from failed


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shown(parts: SplitResult) -> str:
    """The URL without its query, which may hold a key."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
