"""What the tests on a cluster are written in."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from devcluster import AuditEvent, Cluster, DevclusterError
from devcluster.installation import USER, WRITES, Operator
from devcluster.waiting import eventually

T = TypeVar("T")

CEILING = 60.0
"""Seconds until a test gives up waiting: generous, as machines are slow at times. How fast things are is measured elsewhere."""

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

HOST = "whisper.example.com"
"""Of examples/minimal.yaml."""
CERTIFICATE = "ManagedCertificate/whisper-3ebc8463"
ALL = {
    "BackendConfig/whisper",
    "NetworkPolicy/whisper",
    "Service/whisper",
    "Deployment/whisper",
    "PodMonitoring/whisper",
    CERTIFICATE,
    "Ingress/whisper",
}
"""Its children."""

CHILDREN = ",".join(
    (
        *("deployments", "services", "ingresses", "networkpolicies"),
        *("horizontalpodautoscalers", "poddisruptionbudgets"),
        *("backendconfigs", "frontendconfigs", "managedcertificates", "podmonitorings"),
    )
)


def until(look: Callable[[], T | None], what: str, ceiling: float = CEILING) -> T:
    """The first true thing that `look` returns. Fails, naming `what`, when the ceiling is reached."""
    return eventually(look, timeout=ceiling, what=what)


@contextmanager
def stopped(operator: Operator) -> Iterator[None]:
    """Meanwhile; whatever fails, the tests after this one need it again."""
    operator.stop()
    try:
        yield
    finally:
        operator.start().wait_until_working()


def endpoint(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "whisper-operator.io/v1alpha1",
        "kind": "WhisperEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def patch(cluster: Cluster, namespace: str, *, name: str = "whisper", **spec: Any) -> None:
    """Change some fields of an endpoint's spec; None takes one out."""
    change = json.dumps({"spec": spec})
    cluster.kubectl("patch", "wep", name, "-n", namespace, "--type=merge", "-p", change)


@contextmanager
def without_right(cluster: Cluster, resource: str) -> Iterator[None]:
    """The operator's ServiceAccount may do nothing with a kind."""

    def allow(rules: list[dict[str, Any]]) -> None:
        change = json.dumps({"rules": rules})
        cluster.kubectl("patch", "clusterrole", "whisper-operator", "--type=merge", "-p", change)

    before = cluster.get("clusterrole", "whisper-operator")["rules"]
    less = [
        {**rule, "resources": [each for each in rule["resources"] if each != resource]} for rule in before
    ]
    allow([rule for rule in less if rule["resources"]])
    try:
        yield
    finally:
        allow(before)


def own_faults(operator: Operator) -> list[dict[str, Any]]:
    """What the operator said of faults of its own, in a pass or in one write: a later try may succeed, and hide them."""
    words = ("Reconciling failed", "by a fault of the operator's own")
    return [line for line in operator.complaints() if any(each in str(line["message"]) for each in words)]


def condition(resource: dict[str, Any], name: str) -> dict[str, Any]:
    """One condition of an endpoint; {} if it does not apply."""
    found = resource.get("status", {}).get("conditions", [])
    return next((dict(each) for each in found if each["type"] == name), {})


def live(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    return cluster.get("whisperendpoint", name, "-n", namespace)


def wait_for_condition(
    cluster: Cluster,
    namespace: str,
    name: str,
    kind: str = "Ready",
    status: str = "True",
    reason: str | None = None,
) -> dict[str, Any]:
    """The endpoint once it has that condition for its current spec."""

    def look() -> dict[str, Any] | None:
        resource = live(cluster, namespace, name)
        found = condition(resource, kind)
        current = found.get("observedGeneration") == resource["metadata"]["generation"]
        fits = found.get("status") == status and reason in (None, found.get("reason"))
        return resource if current and fits else None

    try:
        return until(look, f"{kind}={status} {reason or ''} of {namespace}/{name}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {live(cluster, namespace, name).get('status')}") from None


def children(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Live children in the namespace, by KIND/NAME, whatever their endpoint."""
    items = cluster.get(CHILDREN, "-n", namespace, "-l", "app.kubernetes.io/managed-by=whisper-operator")[
        "items"
    ]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


def exists(cluster: Cluster, namespace: str, kind: str, name: str) -> bool:
    try:
        cluster.get(kind, name, "-n", namespace)
    except DevclusterError as error:
        if "not found" in str(error):
            return False
        raise
    return True


def now() -> datetime:
    return datetime.now(UTC)


LEASES = "coordination.k8s.io/leases"
"""Renewed all the time, by which it is known who writes all else."""
REVIEWS = "authorization.k8s.io/subjectaccessreviews"
"""Questions, by the verb create."""


def is_change(event: AuditEvent) -> bool:
    """Whether a write is one of what only a leader may write."""
    return event.resource not in (LEASES, REVIEWS)


def writes(cluster: Cluster, since: datetime | None = None, namespace: str | None = None) -> list[AuditEvent]:
    """What the operator wrote of others' objects, refused or not; in one namespace, where those of other tests are on their way
    out."""
    events = cluster.audit(user=USER, verbs=WRITES, since=since)
    events = list(filter(is_change, events))
    return [event for event in events if namespace in (None, event.namespace)]


def wait_until_quiet(cluster: Cluster, seconds: float = 3.0) -> datetime:
    """Wait until the operator has written nothing for `seconds`; the time when that was seen."""

    def look() -> bool:
        start = now()
        time.sleep(seconds)
        return not writes(cluster, start)

    until(look, f"{seconds} s without a write by the operator", ceiling=180)
    return now()
