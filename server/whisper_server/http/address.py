"""What proxies say of a request: who calls, where no key says it, and how."""

import ipaddress
import re

from flask import Request

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""All of IPv4, as a translator writes it: the address is in the last 32 bits."""
_WITH_PORT = re.compile(r"\[(.+)\](?::[0-9]+)?|([^:]+):[0-9]+")


def address(request: Request, proxies: int) -> str:
    """Where a request comes from: the first of the entries that `proxies` wrote at the end of X-Forwarded-For.

    What stands before them is the client's own invention; a header with fewer did not come through the proxies.
    """
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    if 0 < proxies <= len(forwarded):
        try:
            return _client(forwarded[-proxies].strip())
        except ValueError:
            pass
    try:
        return _client(request.remote_addr or "")
    except ValueError:
        return request.remote_addr or "unknown"


def forwarded_scheme(request: Request) -> str | None:
    """ "http" or "https", as the proxy that ends encryption says of the way before it; None: it says nothing.

    Whoever reaches the server without a proxy may say what they like.
    """
    said = request.headers.get("X-Forwarded-Proto")
    return None if said is None else said.strip().lower()


def _client(entry: str) -> str:
    """The client of an address, which some proxies write with its port; raises ValueError.

    Of the internet's IPv6 that is a network: whoever has one address has 2**64 of them, and would be a new client with each.
    """
    if named := _WITH_PORT.fullmatch(entry):
        entry = named[1] or named[2]
    ip = ipaddress.ip_address(entry)
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    if ip in _NAT64:
        return str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return str(ipaddress.IPv6Network((ip, 64), strict=False)) if ip.is_global else str(ip)
