"""How much endpoints may ask for: one by itself, those of a namespace together, and all of them.

Who has something keeps it: what runs counts first, and of those that ask for more, the oldest gets it as long as there is room.
What runs is read off the live Deployments, so that a restart changes nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT
from whisper_operator.kube.objects import Key, Raw
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint

Amounts = Mapping[str, float]
"""By what is counted, one of COUNTED."""

RESOURCES = ("cpu", "memory", "ephemeral-storage")
COUNTED = ("endpoints", "replicas", "gpus", *RESOURCES)

NOTHING: Amounts = {}

VIOLATION = "PolicyViolation"
"""The reason of whatever the policy does not allow."""

SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
SUFFIXES |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", start=1)}


def amounts(raw: Mapping[str, Any]) -> Amounts:
    """Ceilings out of the policy file."""
    return {name: _number(value) for name, value in raw.items()}


def asked(endpoint: WhisperEndpoint) -> Amounts:
    """What an endpoint asks for at the most. The pod more that a rollout starts is not counted: it goes again."""
    if endpoint.suspend:
        return {"endpoints": 1.0}
    replicas = endpoint.autoscaling.maximum if endpoint.autoscaling else endpoint.replicas or 0
    gpus = {"gpu": "1"} if endpoint.gpu else {}
    requests, limits = endpoint.resources.requests, endpoint.resources.limits
    return _times(replicas, {"requests": {**requests, **gpus}, "limits": {**limits, **gpus}})


def held(name: str, observed: Observed) -> Amounts:
    """What an endpoint has: what its live Deployment asks for, and as many as its live autoscaler may make of it."""
    deployment, autoscaler = observed.only(DEPLOYMENT, name), observed.only(AUTOSCALER, name)
    if deployment is None:
        return {"endpoints": 1.0} if observed.children else NOTHING
    replicas = deployment.spec.get("replicas", 1)
    if autoscaler is not None and replicas:
        replicas = max(replicas, autoscaler.spec.get("maxReplicas", 0))
    return _times(replicas, deployment.takes)


def check_one(ceiling: Amounts, endpoint: WhisperEndpoint) -> list[str]:
    """What of one endpoint goes beyond what any may ask for, in words."""
    return [
        f"{name} {_said(name, amount)} (an endpoint may ask for {_said(name, ceiling[name])})"
        for name, amount in asked(endpoint).items()
        if amount > ceiling.get(name, amount)
    ]


@dataclass(frozen=True)
class _Entry:
    """What one endpoint asks for and has."""

    age: tuple[str, str]
    asked: Amounts
    held: Amounts
    granted: Amounts | None = None
    """What it was told it may have, until the cluster shows it: else two could be told the same."""

    @property
    def has(self) -> Amounts:
        return self.held if self.granted is None else _most(self.held, self.granted)


class Ledger:
    """What all endpoints ask for and have. Not thread-safe."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        """`wake` is called with each endpoint that had no room and may have it now."""
        self._wake = wake
        self._entries: dict[Key, _Entry] = {}
        self._refused: set[Key] = set()

    def note(self, resource: Raw, wanted: Amounts, has: Amounts) -> None:
        """Take in what an endpoint asks for and has by now."""
        metadata = resource["metadata"]
        key = (metadata["namespace"], metadata["name"])
        age = (metadata.get("creationTimestamp") or "", metadata.get("uid") or "")
        known = self._entries.get(key)
        granted = known.granted if known and known.asked == wanted and known.age == age else None
        entry = _Entry(age, wanted, has, granted)
        if entry != known:
            self._entries[key] = entry
            if known is not None and not _within(
                _most(known.asked, known.has), _most(entry.asked, entry.has)
            ):
                self._wake_others(key)

    def forget(self, key: Key) -> None:
        """Take in that an endpoint is gone."""
        if self._entries.pop(key, None) is not None:
            self._refused.discard(key)
            self._wake_others(key)

    def grant(self, key: Key, namespace_ceiling: Amounts, ceiling: Amounts) -> None:
        """Let a noted endpoint have what it asks for. Raises SpecError if there is no room for that."""
        entry = self._entries[key]
        shrinks = _within(entry.asked, entry.has) and not _within(entry.has, entry.asked)
        wrong: list[str] = []
        if not shrinks:
            own = self._of(key[0]) if namespace_ceiling else {}
            wrong = [
                f"{name} {_said(name, entry.asked[name])} (namespace {key[0]} may ask for "
                f"{_said(name, namespace_ceiling[name])} in all)"
                for name in _too_much(key, own, namespace_ceiling)
            ]
            wrong += [
                f"{name} {_said(name, entry.asked[name])} (all that the installation may use is spoken for)"
                for name in _too_much(key, self._entries, ceiling)
            ]
        if wrong:
            self._refused.add(key)
            raise _no_room(key[0], wrong)
        self._refused.discard(key)
        self._entries[key] = replace(entry, granted=entry.asked)

    def _of(self, namespace: str) -> dict[Key, _Entry]:
        return {key: entry for key, entry in self._entries.items() if key[0] == namespace}

    def _wake_others(self, key: Key) -> None:
        for other in sorted(self._refused - {key}):
            self._wake(other)


def _too_much(key: Key, entries: Mapping[Key, _Entry], ceiling: Amounts) -> list[str]:
    """Of what there is too much for one endpoint, those before it being served first."""
    if not ceiling:
        return []
    found = []
    for name, most in ceiling.items():
        wanted = entries[key].asked.get(name, 0.0)
        if (
            not wanted
            or sum(max(each.asked.get(name, 0.0), each.has.get(name, 0.0)) for each in entries.values())
            <= most
        ):
            continue
        if not _has_room(key, entries, name, most):
            found.append(name)
    return found


def _has_room(key: Key, entries: Mapping[Key, _Entry], name: str, most: float) -> bool:
    """First all that runs, by age; then what is asked for beyond, by age, where it fits."""
    in_order = sorted(entries, key=lambda each: entries[each].age)
    total = 0.0
    for each in in_order:
        kept = min(entries[each].asked.get(name, 0.0), entries[each].has.get(name, 0.0))
        total += kept
        if each == key and kept and total > most:
            return False
    total = _sum(name, entries.values())
    for each in in_order:
        more = entries[each].asked.get(name, 0.0) - entries[each].has.get(name, 0.0)
        fits = total + more <= most
        if each == key:
            return more <= 0 or fits
        if more > 0 and fits:
            total += more
    return True


def _sum(name: str, entries: Iterable[_Entry]) -> float:
    return sum(each.has.get(name, 0.0) for each in entries)


def _times(replicas: int, takes: Mapping[str, Mapping[str, Any]]) -> Amounts:
    found = {"endpoints": 1.0, "replicas": float(replicas)}
    for part in takes.values():
        for resource, quantity in part.items():
            name = resource if resource in RESOURCES else "gpus"
            found[name] = max(found.get(name, 0.0), replicas * _number(quantity))
    return found


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {*one, *other}}


def _within(one: Amounts, other: Amounts) -> bool:
    return all(amount <= other.get(name, 0.0) for name, amount in one.items())


def _number(quantity: object) -> float:
    """A Kubernetes quantity as it stands in an object; 0 for what is none, as somebody's own resource may be."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)([A-Za-z]*)", str(quantity))
    return float(match[1]) * SUFFIXES.get(match[2], 0.0) if match else 0.0


def _said(name: str, amount: float) -> str:
    if name in ("memory", "ephemeral-storage"):
        return f"{amount / 1024**3:.6g}Gi"
    return f"{amount:.6g}"


def _no_room(namespace: str, wrong: list[str]) -> SpecError:
    """In the words of a condition."""
    return SpecError(
        VIOLATION,
        f"The installation's policy leaves no room for this: {'; '.join(wrong)}. What runs was left as it is. Ask for less, "
        f"suspend another endpoint, or ask the platform team for a higher ceiling for namespace {namespace}; it goes on by "
        "itself once there is room.",
        waits_for_room=True,
    )
