"""What endpoints lack, for alerts that name them: one sample a condition that is not as it should be, none while all is well."""

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import Gauge

from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.kube.objects import Raw, condition
from whisper_operator.status.condition import SUSPENDED

AMISS = Gauge(
    "whisper_operator_endpoint_amiss",
    "1 for each condition of a WhisperEndpoint that is not as it should be: Stalled if it is True, any other if it is not; "
    "none of an endpoint that is suspended.",
    # Not `namespace` and `endpoint`, which a Prometheus puts on every sample of a pod.
    ["endpoint_namespace", "endpoint_name", "condition", "reason"],
    registry=REGISTRY,
)

UNTOLD = "NotTakenUp"
"""The reason where the operator has written no status yet."""

MOST = 50
"""Endpoints of a namespace that are named: thousands would help nobody, and take long to tell. All are counted elsewhere."""


def show(resources: Iterable[Raw]) -> None:
    """Have the metric say what these endpoints lack, MOST of a namespace, and nothing of others."""
    AMISS.clear()
    named = Counter[str]()
    for resource in resources:
        metadata = resource.get("metadata") or {}
        namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
        found = list(lacking(resource.get("status") or {})) if named[namespace] < MOST else []
        named[namespace] += bool(found)
        for kind, reason in found:
            AMISS.labels(namespace, name, kind, reason).set(1)


def lacking(status: Raw) -> Iterator[tuple[str, str]]:
    """The type and the reason of each condition that is not as it should be."""
    ready = condition(status, "Ready")
    if not ready:
        yield "Ready", UNTOLD
    if ready.get("reason") == SUSPENDED:
        return
    for each in status.get("conditions") or ():
        if (each.get("status") == "True") == (each.get("type") == "Stalled"):
            yield each.get("type", ""), each.get("reason", "")
