"""Who may have a host or a static address: each belongs to one endpoint.

Two load balancers can't share either. Whoever's Ingress has it keeps it, though its spec may ask for something else by now that
it can't get, or the Ingress be gone for a moment; of those that only ask for it, the oldest gets it. So nobody's edit takes
another's traffic away. Age goes by creationTimestamp, then uid, which the API server sets and nobody can change.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from whisper_operator.kube.objects import Key, Raw
from whisper_operator.observed.children import Child
from whisper_operator.spec.endpoint import SpecError
from whisper_operator.spec.exposure import EXTERNAL, INTERNAL

Claim = tuple[str, str]
"""What is claimed, one of HOST and ADDRESSES, and its name."""

HOST = "host"
ADDRESSES = {EXTERNAL: "global address", INTERNAL: "regional address"}
"""By GKE's class of Ingress; a global and a regional address of one name are two things."""

CONFLICTS = ("HostConflict", "StaticIPConflict")
"""The reasons of who waits for what another one has."""


@dataclass(frozen=True, slots=True, order=True)
class _Claimant:
    """The least of them has what they claim."""

    rank: int
    """0: its Ingress has what its spec asks for; 1: its Ingress has it still, or had it, and its spec goes on asking for it;
    2: its spec asks for it; 3: so it does, and may have nothing now, by the installation's policy."""
    created: str
    uid: str


def asked(resource: Raw) -> frozenset[Claim]:
    """What an endpoint asks for that nobody else can have; of a spec that makes no sense, what of it can be read."""
    spec = resource.get("spec")
    if not isinstance(spec, Mapping):
        return frozenset()
    more, ingress = spec.get("additionalHosts"), spec.get("ingress")
    hosts = [spec.get("host"), *(more if isinstance(more, list) else ())]
    chosen = (ingress.get("class") if isinstance(ingress, Mapping) else None) or EXTERNAL
    address = ADDRESSES.get(chosen) if isinstance(chosen, str) else None
    found: list[tuple[str, Any]] = [(HOST, host) for host in hosts]
    if address is not None:
        found.append((address, spec.get("staticIPName")))
    return frozenset((what, name) for what, name in found if isinstance(name, str))


def held(ingresses: Iterable[Child]) -> frozenset[Claim]:
    """What live Ingresses have, whatever is asked for now."""
    found: set[Claim] = set()
    for ingress in ingresses:
        found |= {(HOST, host) for host in ingress.hosts}
        address = ADDRESSES.get(ingress.ingress_class)
        if address is not None and ingress.static_ip_name:
            found.add((address, ingress.static_ip_name))
    return frozenset(found)


class Claims:
    """Which endpoints have, or ask for, what."""

    def __init__(self) -> None:
        self._claimants: dict[Claim, dict[Key, _Claimant]] = {}
        self._asked: dict[Key, frozenset[Claim]] = {}
        self._claims: dict[Key, frozenset[Claim]] = {}
        """What each asks for, and what it has."""

    def note(
        self, key: Key, resource: Raw | None, ingresses: Iterable[Child] = (), *, refused: bool = False
    ) -> set[Key]:
        """An endpoint, or None when it is gone, and the live Ingresses of its name, which may outlive it.

        Returns the other endpoints that this changes something for.

        `refused`: the policy lets it have nothing now. It keeps nobody from what it only asks for.
        """
        asking = asked(resource) if resource is not None else frozenset()
        having = held(ingresses)
        uid, created = _age(resource)
        woken: set[Key] = set()
        for claim in self._claims.get(key, frozenset()) | asking | having:
            claimants = self._claimants.setdefault(claim, {})
            known = claimants.pop(key, None)
            if claim in asking | having:
                rank = (0 if claim in asking else 1) if claim in having else 3 if refused else 2
                if known is not None and known.uid == uid and known.rank < 2 and not refused:
                    rank = min(rank, 1)  # its Ingress is made again
                claimants[key] = _Claimant(rank, created, uid)
            if known != claimants.get(key):
                woken |= set(claimants)
            if not claimants:
                del self._claimants[claim]
        for book, claims in ((self._asked, asking), (self._claims, asking | having)):
            if claims:
                book[key] = claims
            else:
                book.pop(key, None)
        return woken - {key}

    def __len__(self) -> int:
        """How many endpoints have, or ask for, something."""
        return len(self._claims)

    def held_against(self, key: Key) -> list[tuple[Claim, Key]]:
        """What the endpoint asks for and another one has, and which."""
        found = []
        for claim in sorted(self._asked.get(key, ())):
            claimants = self._claimants[claim]
            holder = min(claimants, key=lambda each: claimants[each])
            if holder != key:
                found.append((claim, holder))
        return found


def check(
    held: Iterable[tuple[Claim, Key]],
    namespace: str,
    *,
    names_others: bool = True,
    exists: Callable[[Key], bool] = lambda key: True,
) -> None:
    """Raise SpecError if another endpoint has what one in `namespace` asks for; `names_others`: of another namespace, too;
    `exists`: whether there is an endpoint of that name, and not just what it has left."""
    for (what, name), (where, holder) in held:
        is_host = what == HOST
        words = f"the host {name}" if is_host else f"the {what.replace(' ', ' static ')} {name}"
        other = "another host" if is_host else "another staticIPName"
        who = _named(holder, where, names_others or where == namespace)
        if exists((where, holder)):
            whose, way_out = who, "take it out of that one, whose status says if it can't give it up"
        else:
            whose = f"An Ingress that is left of {who[0].lower() + who[1:] if who.startswith('A ') else who}"
            way_out = "delete that Ingress, unless it is on its way out already"
        raise SpecError(
            CONFLICTS[0] if is_host else CONFLICTS[1],
            f"{whose} has {words}, which only one endpoint can have: use {other}, or {way_out}. This one was left as it is, and "
            "goes on by itself once it is free.",
        )


def _named(holder: str, namespace: str, told: bool) -> str:
    return (
        f"WhisperEndpoint {holder} in namespace {namespace}"
        if told
        else "A WhisperEndpoint in another namespace"
    )


def _age(resource: Raw | None) -> tuple[str, str]:
    """uid and creationTimestamp."""
    if resource is None:
        return "", ""
    return resource["metadata"]["uid"], resource["metadata"].get("creationTimestamp") or ""
