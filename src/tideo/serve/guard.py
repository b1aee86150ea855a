"""Who may ask: a key, and no page of another origin."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit


def has_key(authorization: str | None, key: str) -> bool:
    """Whether a header "Authorization: Bearer KEY" holds the key, compared in constant time."""
    scheme, _, sent = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), key.encode())


def is_own_origin(*, origin: str | None, host: str | None, served_as: str) -> bool:
    """Whether a request can only come from our own page, or from a client that is no browser's page.

    A page of another origin sends its own `Origin`. One whose name was made to lead here (DNS rebinding) sends it in
    `Host` too, so only addresses, localhost and the name that the server was given are taken there.
    """
    name = _name(host)
    if name not in ("localhost", served_as) and not _is_address(name):
        return False
    return origin is None or urlsplit(origin).netloc == host


def _name(host: str | None) -> str:
    try:
        return urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
