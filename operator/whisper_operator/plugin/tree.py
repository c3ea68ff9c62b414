"""An endpoint in lines: its objects as a tree by their owners, each with its state in a word or two, and its conditions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from whisper_operator.kube import kinds
from whisper_operator.kube.objects import Raw
from whisper_operator.observed.foreign_words import printable

KINDS = tuple(
    kind.qualified
    for kind in (
        *(kinds.BACKEND_CONFIG, kinds.FRONTEND_CONFIG, kinds.NETWORK_POLICY, kinds.SERVICE),
        *(kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD, kinds.AUTOSCALER, kinds.DISRUPTION_BUDGET),
        *(
            kinds.POD_MONITORING,
            kinds.POD_MONITOR,
            kinds.COMPUTE_ADDRESS,
            kinds.MANAGED_CERTIFICATE,
            kinds.INGRESS,
        ),
    )
)
"""Of a tree's objects, in their order; a cluster may lack some."""

WIDTH = 42


def lines(endpoint: Raw, objects: Iterable[Raw]) -> dict[str, str]:
    """What there is of it and the state that each thing is in."""
    found = {
        f"{'  ' * depth}{each['kind']} {each['metadata']['name']}": printable(_state(each))
        for depth, each in _tree(list(objects))
    }
    for condition in (endpoint.get("status") or {}).get("conditions", []):
        found[f"condition {condition['type']}"] = printable(f"{condition['status']} ({condition['reason']})")
    return found


def news(now: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """What has come, changed or gone."""
    gone = {what: "gone" for what in before if what not in now and before[what] != "gone"}
    return {what: state for what, state in now.items() if before.get(what) != state} | gone


def written(what: str, state: str) -> str:
    return f"{what:<{WIDTH}} {state}"


def _tree(objects: Sequence[Raw]) -> Iterator[tuple[int, Raw]]:
    """Depth and object: those first that no other one here owns, each followed by its own."""
    ids = {each["metadata"].get("uid") for each in objects}

    def owner(each: Raw) -> str | None:
        owners = (one["uid"] for one in each["metadata"].get("ownerReferences") or ())
        return next((one for one in owners if one in ids), None)

    def below(parent: str | None, depth: int) -> Iterator[tuple[int, Raw]]:
        for each in objects:
            if owner(each) == parent:
                yield depth, each
                yield from below(each["metadata"]["uid"], depth + 1)

    yield from below(None, 0)


def _state(item: Raw) -> str:
    status = item.get("status") or {}
    match item["kind"]:
        case "Deployment" | "ReplicaSet":
            return f"{status.get('readyReplicas', 0)} of {item['spec']['replicas']} ready"
        case "Pod":
            return _pod(item, status)
        case "ManagedCertificate":
            return str(status.get("certificateStatus") or "created")
        case "Ingress":
            addresses = (status.get("loadBalancer") or {}).get("ingress") or [{}]
            return str(addresses[0].get("ip") or addresses[0].get("hostname") or "no address yet")
        case "HorizontalPodAutoscaler":
            return f"{status.get('currentReplicas', 0)} replicas, {status.get('desiredReplicas', 0)} wanted"
    return "created"


def _pod(item: Raw, status: Raw) -> str:
    """Its phase, or why it does not get there."""
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for container in status.get("containerStatuses") or ():
        waiting: dict[str, Any] = container["state"].get("waiting") or {}
        if waiting.get("reason"):
            return str(waiting["reason"])
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("reason") or "Unschedulable")
    is_ready = any(
        each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()
    )
    phase = str(status.get("phase", ""))
    return "Running, not ready" if phase == "Running" and not is_ready else phase
