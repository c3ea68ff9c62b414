"""Where pods may connect to, beside what every endpoint needs: said by the installation, and by single endpoints."""

import ipaddress
import re
from dataclasses import dataclass

from whisper_operator.spec.fields import Fields

NAMESPACE = r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?"
"""The name of one: a label's value in every NetworkPolicy that lets its pods in, or lets pods reach them."""


@dataclass(frozen=True)
class Port:
    """A port, or those from `first` to `last`."""

    first: int
    last: int | None
    protocol: str
    """"TCP", "UDP" or "SCTP"."""


@dataclass(frozen=True)
class Egress:
    """One way out: what is None, or empty, is not restricted."""

    cidr: str | None
    namespace: str | None
    """Whose pods; excludes `cidr`."""
    ports: tuple[Port, ...]


def egress(raw: Fields, name: str) -> tuple[Egress, ...]:
    """The list at `name`, in the form of spec.networkPolicy.egress. Raises ValueError."""
    return tuple(_way_out(item) for item in raw.items(name))


def is_cidr(text: str) -> bool:
    """Whether it is an address and the length of its prefix, as CEL's isCIDR has it."""
    try:
        address = ipaddress.ip_interface(text).ip
    except ValueError:
        return False
    # Python takes an address alone, a mask for a length, and IPv4 within IPv6, too.
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    return not mapped and re.fullmatch(r"[^/%]+/(0|[1-9][0-9]*)", text) is not None


def is_network(text: str) -> bool:
    """Whether it is one, with no bits set beyond the prefix: an API server takes no other in a NetworkPolicy."""
    return (
        is_cidr(text)
        and ipaddress.ip_interface(text).ip == ipaddress.ip_network(text, strict=False).network_address
    )


def _way_out(raw: Fields) -> Egress:
    raw.only("cidr", "namespace", "ports")
    cidr, namespace = raw.text("cidr"), raw.text("namespace")
    ports = tuple(_port(item) for item in raw.items("ports"))
    if cidr is not None and not is_network(cidr):
        raise ValueError(f"{raw.path}.cidr must be a network such as 10.0.0.0/8, not {cidr!r}")
    if namespace is not None and not re.fullmatch(NAMESPACE, namespace):
        raise ValueError(f"{raw.path}.namespace must be the name of a namespace, not {namespace!r}")
    if cidr is not None and namespace is not None:
        raise ValueError(f"{raw.path}: cidr and namespace exclude each other: make two entries of them")
    if cidr is None and namespace is None and not ports:
        raise ValueError(
            f"{raw.path} needs cidr, namespace or ports; to open all set networkPolicy.enabled: false"
        )
    return Egress(cidr, namespace, ports)


def _port(raw: Fields) -> Port:
    raw.only("port", "endPort", "protocol")
    first = raw.number("port", 0)
    last = raw.number("endPort", first)
    protocol = raw.text("protocol") or "TCP"
    if not 1 <= first <= last <= 65535:
        raise ValueError(
            f"{raw.path} needs a port from 1 to 65535, and an endPort not below it if there is one"
        )
    if protocol not in ("TCP", "UDP", "SCTP"):
        raise ValueError(f"{raw.path}.protocol must be TCP, UDP or SCTP, not {protocol!r}")
    return Port(first, last if last > first else None, protocol)
