from __future__ import annotations

import pytest

from tideo.serve.guard import checked_key, is_own_origin
from tideo.types import UserError


@pytest.mark.parametrize("key", ["", " ", "a b", "abc\n", "schlüssel", "a\udc80"])
def test_a_key_that_no_client_can_send_is_refused(key):
    with pytest.raises(UserError, match="TIDEO_API_KEY is empty, or holds"):
        checked_key(key, variable="TIDEO_API_KEY")


@pytest.mark.parametrize(
    "host",
    ["localhost/v1?", "127.0.0.1#", "evil@localhost", "localhost?", "[::1]/x", "localhost:1:2", "", None],
)
def test_a_host_with_more_than_a_name_and_a_port_is_no_own_one(host):
    assert not is_own_origin(origin=None, host=host, served_as="localhost")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]", "Box.example"]
)
def test_own_hosts(host):
    assert is_own_origin(origin=None, host=host, served_as="box.Example")


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null", ""])
def test_an_origin_that_is_malformed_is_another(origin):
    assert not is_own_origin(origin=origin, host="localhost", served_as="localhost")
