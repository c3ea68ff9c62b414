"""Who calls: the proxies' word where there are some, the peer's address where there are none, and of IPv6 a network."""

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request
from whisper_server.http.address import address


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        (2, None, "192.0.2.1"),
        (2, "198.51.100.7, 203.0.113.9", "198.51.100.7"),
        (2, "6.6.6.6, 198.51.100.7, 203.0.113.9", "198.51.100.7"),
        (2, "2001:db8::1,203.0.113.9", "2001:db8::1"),
        # Of the internet: a household, and each machine in it, has as many addresses as it likes.
        (2, "2a00:1450:4001:800::1,203.0.113.9", "2a00:1450:4001:800::/64"),
        (2, "2a00:1450:4001:800:abcd:ef01:2345:6789,203.0.113.9", "2a00:1450:4001:800::/64"),
        (2, "2a00:1450:4001:801::1,203.0.113.9", "2a00:1450:4001:801::/64"),
        (2, "::ffff:198.51.100.7,203.0.113.9", "198.51.100.7"),
        (2, "64:ff9b::c633:6407,203.0.113.9", "198.51.100.7"),  # by a translator
        (1, "198.51.100.7:50123", "198.51.100.7"),  # as some proxies write it
        (1, "[2001:db8::1]:50123", "2001:db8::1"),
        (1, "[2001:db8::1]", "2001:db8::1"),
        (1, "[198.51.100.7", "192.0.2.1"),
        (2, "203.0.113.9", "192.0.2.1"),  # it did not come through both of them
        (2, "<script>, 203.0.113.9", "192.0.2.1"),
        (1, "6.6.6.6, 198.51.100.7", "198.51.100.7"),
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "", "192.0.2.1"),
        (0, "6.6.6.6", "192.0.2.1"),
        (0, "6.6.6.6, 198.51.100.7, 203.0.113.9", "192.0.2.1"),
    ],
)
def test_client_is_who_the_proxies_say(proxies: int, forwarded: str | None, client: str) -> None:
    headers = [] if forwarded is None else [("X-Forwarded-For", forwarded)]
    environ = EnvironBuilder(headers=headers, environ_base={"REMOTE_ADDR": "192.0.2.1"}).get_environ()
    assert address(Request(environ), proxies) == client  # type: ignore[arg-type]  # flask's adds nothing here


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("2a00:1450:4001:800::1", "2a00:1450:4001:800::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::1", "::1"),
        ("", "unknown"),
        ("a socket", "a socket"),
    ],
)
def test_without_proxies_a_client_is_its_network_too(peer: str, client: str) -> None:
    environ = EnvironBuilder(environ_base={"REMOTE_ADDR": peer}).get_environ()
    assert address(Request(environ), 0) == client  # type: ignore[arg-type]
