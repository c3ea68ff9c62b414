"""What endpoints ask for, and what runs, as numbers that can be added up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_operator.observed.children import Child
from whisper_operator.observed.pods import Pod
from whisper_operator.spec.endpoint import WhisperEndpoint
from whisper_operator.spec.quantity import number

Amounts = Mapping[str, int]
"""By what is counted, one of COUNTED, in thousandths: whole numbers, whose sums are exact. Nothing is left out, not 0."""

RESOURCES = ("cpu", "memory", "ephemeral-storage")
COUNTED = ("endpoints", "hosts", "replicas", "gpus", *RESOURCES)

NOTHING: Amounts = {}
ONE = 1000

UNLIMITED = "none"
"""In the policy file, of what has no ceiling though the preset gives it one."""


def ceilings(raw: Mapping[str, Any]) -> Amounts:
    """Out of the policy file."""
    return {name: thousandths(value) for name, value in raw.items() if value != UNLIMITED}


def asked(endpoint: WhisperEndpoint) -> Amounts:
    """What an endpoint asks for at the most. The pod more that a rollout starts is not asked for; it counts while it is there."""
    found = {"endpoints": ONE, "hosts": ONE * len(endpoint.public.hosts) if endpoint.public else 0}
    if not endpoint.suspend:
        replicas = endpoint.autoscaling.maximum if endpoint.autoscaling else endpoint.replicas or 0
        gpus = {"gpu": "1"} if endpoint.gpu else {}
        requests, limits = endpoint.resources.requests, endpoint.resources.limits
        found |= _times(replicas, {"requests": {**requests, **gpus}, "limits": {**limits, **gpus}})
    return _without_zeros(found)


@dataclass(frozen=True)
class Running:
    """What there is in the cluster under an endpoint's name, whether or not there is such an endpoint."""

    kept: Amounts = field(default_factory=dict)
    """What its Deployment asks for, and as many as its autoscaler may make of it; and its Ingress's hosts."""
    pods: Amounts = field(default_factory=dict)
    """What its pods have, however many its Deployment asks for."""
    going: Amounts = field(default_factory=dict)
    """What its pods on their way out have besides: up to an hour, where a request takes as long."""


def running(
    deployments: Iterable[Child],
    autoscalers: Iterable[Child],
    ingresses: Iterable[Child],
    pods: Iterable[Pod],
) -> Running:
    """All that is filed under one endpoint's name."""
    most = max((each.spec.get("maxReplicas", 0) for each in autoscalers), default=0)
    kept: Amounts = NOTHING
    for deployment in deployments:
        replicas = deployment.spec.get("replicas", 1)
        kept = added(kept, _times(max(replicas, most) if replicas else 0, deployment.takes))
        kept = {**kept, "endpoints": ONE}
    hosts = {host for ingress in ingresses for host in ingress.hosts}
    if hosts:
        kept = {**kept, "endpoints": ONE, "hosts": ONE * len(hosts)}
    serving, going = NOTHING, NOTHING
    for pod in pods:
        if pod.going:
            going = added(going, _times(1, pod.takes))
        elif not pod.over:
            serving = added(serving, _times(1, pod.takes))
    return Running(*map(_without_zeros, (kept, serving, going)))


def added(one: Amounts, other: Amounts) -> Amounts:
    """The sum of two."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {*one, *other}}


def greatest(*each: Amounts) -> Amounts:
    """Of each thing, the most that one of them has."""
    return {name: max(one.get(name, 0) for one in each) for name in set().union(*each)}


def least(one: Amounts, other: Amounts) -> Amounts:
    """Of each thing, what both have."""
    return {name: min(amount, other[name]) for name, amount in one.items() if name in other}


def beyond(one: Amounts, other: Amounts) -> Amounts:
    """What the one has more than the other."""
    return {name: amount - other.get(name, 0) for name, amount in one.items() if amount > other.get(name, 0)}


def said(name: str, amount: int) -> str:
    """In words of the policy."""
    if name in ("memory", "ephemeral-storage"):
        return f"{amount / ONE / 1024**3:.6g}Gi"
    return f"{amount / ONE:.6g}"


def _times(replicas: int, takes: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    found = {"replicas": replicas * ONE}
    for part in takes.values():
        for resource, quantity in part.items():
            name = resource if resource in RESOURCES else "gpus"
            found[name] = max(found.get(name, 0), replicas * thousandths(quantity))
    return found


def _without_zeros(found: Amounts) -> Amounts:
    return {name: amount for name, amount in found.items() if amount}


def thousandths(quantity: object) -> int:
    """Of a Kubernetes quantity as it stands in an object; 0 for what is none, as somebody's own resource may be."""
    try:
        return round(number(quantity) * ONE)
    except ValueError:
        return 0
