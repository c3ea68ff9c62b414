"""Who may have a host or a static address: each belongs to one endpoint, the oldest of those that ask for it.

Two load balancers can't share either, and a younger endpoint must not take away an older one's traffic. Age goes by
creationTimestamp, then uid, which the API server sets and nobody can change.
"""

from collections.abc import Iterable, Mapping

from whisper_operator.kube.objects import Key, Raw
from whisper_operator.spec.endpoint import SpecError

Claim = tuple[str, str]
"""A field of the spec, and what it asks for."""

REASONS = {"host": "HostConflict", "staticIPName": "StaticIPConflict"}


def of(resource: Raw) -> frozenset[Claim]:
    """What an endpoint asks for that nobody else can have; of a spec that makes no sense, what of it can be read."""
    spec = resource.get("spec")
    if not isinstance(spec, Mapping):
        return frozenset()
    more = spec.get("additionalHosts")
    hosts = [spec.get("host"), *(more if isinstance(more, list) else ())]
    found = [("host", host) for host in hosts] + [("staticIPName", spec.get("staticIPName"))]
    return frozenset((field, name) for field, name in found if isinstance(name, str))


class Claims:
    """Which endpoints ask for what."""

    def __init__(self) -> None:
        self._claimants: dict[Claim, dict[Key, tuple[str, str]]] = {}
        """With the age of each."""
        self._claims: dict[Key, frozenset[Claim]] = {}

    def note(self, key: Key, resource: Raw | None) -> set[Key]:
        """An endpoint as it is now, or None when it is gone: the other endpoints that this changes something for."""
        before = self._claims.get(key, frozenset())
        after = of(resource) if resource is not None else frozenset()
        age = _age(resource) if resource is not None else ("", "")
        woken: set[Key] = set()
        for claim in before | after:
            claimants = self._claimants.setdefault(claim, {})
            known = claimants.pop(key, None)
            if claim in after:
                claimants[key] = age
            if known != claimants.get(key):
                woken |= set(claimants)
            if not claimants:
                del self._claimants[claim]
        if after:
            self._claims[key] = after
        else:
            self._claims.pop(key, None)
        return woken - {key}

    def held_against(self, key: Key) -> list[tuple[Claim, Key]]:
        """What the endpoint asks for and an older one has, and which."""
        found = []
        for claim in sorted(self._claims.get(key, ())):
            claimants = self._claimants[claim]
            holder = min(claimants, key=lambda each: claimants[each])
            if holder != key:
                found.append((claim, holder))
        return found


def check(held: Iterable[tuple[Claim, Key]]) -> None:
    """Raise SpecError if an older endpoint has what this one asks for."""
    for (field, name), (namespace, holder) in held:
        what = f"the host {name}" if field == "host" else f"the static address {name}"
        other = "another host" if field == "host" else "another staticIPName"
        raise SpecError(
            REASONS[field],
            f"The older WhisperEndpoint {holder} in namespace {namespace} has {what}, which only one endpoint can have: "
            f"use {other}, or take it out of that one. This one was left as it is, and goes on by itself once it is free.",
        )


def _age(resource: Raw) -> tuple[str, str]:
    metadata = resource["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["uid"]
