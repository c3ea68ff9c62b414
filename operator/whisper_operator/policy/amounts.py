"""What endpoints ask for and have, as numbers that can be added up."""

import re
from collections.abc import Mapping
from typing import Any

from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import WhisperEndpoint

Amounts = Mapping[str, int]
"""By what is counted, one of COUNTED, in thousandths: whole numbers, whose sums are exact."""

RESOURCES = ("cpu", "memory", "ephemeral-storage")
COUNTED = ("endpoints", "replicas", "gpus", *RESOURCES)

NOTHING: Amounts = {}
ONE = 1000

SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
SUFFIXES |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", start=1)}


def amounts(raw: Mapping[str, Any]) -> Amounts:
    """Ceilings out of the policy file."""
    return {name: thousandths(value) for name, value in raw.items()}


def asked(endpoint: WhisperEndpoint) -> Amounts:
    """What an endpoint asks for at the most. The pod more that a rollout starts is not counted: it goes again."""
    if endpoint.suspend:
        return {"endpoints": ONE}
    replicas = endpoint.autoscaling.maximum if endpoint.autoscaling else endpoint.replicas or 0
    gpus = {"gpu": "1"} if endpoint.gpu else {}
    requests, limits = endpoint.resources.requests, endpoint.resources.limits
    return _times(replicas, {"requests": {**requests, **gpus}, "limits": {**limits, **gpus}})


def held(name: str, observed: Observed) -> Amounts:
    """What an endpoint has: what its live Deployment asks for, and as many as its live autoscaler may make of it."""
    deployment, autoscaler = observed.only(DEPLOYMENT, name), observed.only(AUTOSCALER, name)
    if deployment is None:
        return {"endpoints": ONE} if observed.children else NOTHING
    replicas = deployment.spec.get("replicas", 1)
    if autoscaler is not None and replicas:
        replicas = max(replicas, autoscaler.spec.get("maxReplicas", 0))
    return _times(replicas, deployment.takes)


def said(name: str, amount: int) -> str:
    """In words of the policy."""
    if name in ("memory", "ephemeral-storage"):
        return f"{amount / ONE / 1024**3:.6g}Gi"
    return f"{amount / ONE:.6g}"


def _times(replicas: int, takes: Mapping[str, Mapping[str, Any]]) -> Amounts:
    found = {"endpoints": ONE, "replicas": replicas * ONE}
    for part in takes.values():
        for resource, quantity in part.items():
            name = resource if resource in RESOURCES else "gpus"
            found[name] = max(found.get(name, 0), replicas * thousandths(quantity))
    return found


def thousandths(quantity: object) -> int:
    """Of a Kubernetes quantity as it stands in an object; 0 for what is none, as somebody's own resource may be."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)([A-Za-z]*)", str(quantity))
    return round(float(match[1]) * SUFFIXES.get(match[2], 0.0) * ONE) if match else 0
