"""Who may ask: a key, and no page of another origin."""

from __future__ import annotations

import hmac
import ipaddress
import re
from urllib.parse import urlsplit

from tideo.types import UserError

_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.IGNORECASE)


def checked_key(key: str, *, variable: str) -> str:
    """A key that a header can hold. Raises UserError for any other: no client could send it."""
    if not re.fullmatch(r"[!-~]+", key):
        raise UserError(
            f"{variable} is empty, or holds blanks or characters beyond ASCII: set letters, digits and signs, or "
            "unset it"
        )
    return key


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
    if name not in ("localhost", served_as.lower()) and not _is_address(name):
        return False
    return origin is None or _netloc(origin) == host


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name(host: str | None) -> str:
    """The name in a header Host; "" if it holds more than a name and a port, as no browser sends it."""
    match = _HOST.fullmatch(host or "")
    return match["name"].strip("[]").lower() if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
