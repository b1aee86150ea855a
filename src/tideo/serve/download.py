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
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from tideo.types import UserError

MAX_REDIRECTS = 3
BLOCK_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_SAFE = "%/:?#[]@!$&'()*+,;=~"  # of a URL: what else it holds is encoded


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
        parts = _parts(url)
        with (
            closing(_connection(parts, allowed_hosts, ends_s=ends_s)) as connection,
            _cut(connection.sock, _left_s(ends_s)),
        ):
            try:
                target = quote(parts.path or "/", safe=_SAFE)
                target += f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
                connection.request("GET", target, headers={"Accept": "*/*", "User-Agent": "tideo"})
                response = connection.getresponse()
                location = response.getheader("Location")
                if response.status in REDIRECTS and location:
                    url = _joined(url, location)
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


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # half an IPv6 address
        raise UserError(f"url {url[:60]!r}: it is malformed ({error})") from error


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise UserError(f"url {url[:60]!r}: it leads to a malformed address ({error})") from error


def _left_s(ends_s: float) -> float:
    return max(0.001, ends_s - time.monotonic())


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
    parts: SplitResult, allowed_hosts: Collection[str], *, ends_s: float
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
        if not _is_address(host) and not is_public(str(address[0])):
            raise UserError(f"{_shown(parts)}: the host's address is not a public one")
        plain = socket.socket(family, kind, protocol)
        plain.settimeout(_left_s(ends_s))  # a name may have many addresses
        try:
            plain.connect(address)
            # Without a certificate for the host's name the connection fails here.
            secure = parts.scheme == "https"
            context = ssl.create_default_context() if secure else None
            connection = http.client.HTTPConnection(host, port, timeout=_left_s(ends_s))
            connection.sock = context.wrap_socket(plain, server_hostname=host) if context else plain
            return connection
        except OSError as error:
            plain.close()
            failed = error
    raise UserError(f"{_shown(parts)}: the host cannot be reached ({_reason(failed)})") from failed


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, as is every IPv4 address that it holds."""
    ip = ipaddress.ip_address(address)
    if not ip.is_global or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return True
    held = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    held += [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)] if ip in _NAT64 else []
    return not ip.is_site_local and all(is_public(str(ipv4)) for ipv4 in held if ipv4 is not None)


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
