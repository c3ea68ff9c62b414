"""What an endpoint's conditions say of objects in a certain state."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from whisper_operator.apply.outcome import Outcome
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    INGRESS,
    Kind,
)
from whisper_operator.observed.children import Child, Observed, Owner
from whisper_operator.observed.pods import Pod, Trouble
from whisper_operator.observed.warnings import Warning
from whisper_operator.spec.endpoint import parse
from whisper_operator.status import conditions
from whisper_operator.status.condition import Condition, Previous

SETTINGS = Settings(server_repository="r/whisper-server", server_version="1")
NOTHING_READY = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
SERVING = {**NOTHING_READY, "readyReplicas": 1, "availableReplicas": 1}


WROTE = "2026-01-31T12:00:00Z"
"""When GKE's controllers last wrote to their objects."""
NOW = datetime(2026, 1, 31, 12, 2, tzinfo=UTC)


def child(kind: Kind, live: Mapping[str, Any], name: str = "w", **more: Any) -> Child:
    owner, spec = Owner("WhisperEndpoint", "w", "u"), more.pop("spec", {})
    return Child(kind, "n", name, kind.plural, 1, 1, owner, False, "h", "{}", spec, live, **more)


def said_of(kind: Kind, reason: str, words: str, at: str = "12:01:30", since: str = "12:00:30") -> Warning:
    """An Event about a child."""
    return Warning(kind.plural, reason, words, f"2026-01-31T{at}Z", f"2026-01-31T{since}Z")


def pod(trouble: Trouble | None = None, name: str = "w-1", **more: Any) -> Pod:
    return Pod(
        name, name, "rs", **{"ready": False, "starting": False, "going": False, **more}, trouble=trouble
    )


def ready(
    *pods: Pod,
    warnings: tuple[Warning, ...] = (),
    before: Mapping[str, Any] | None = None,
    deployment: Mapping[str, Any] = NOTHING_READY,
    ingress: Mapping[str, Any] | None = None,
    ingress_spec: Mapping[str, Any] | None = None,
    others: tuple[Child, ...] = (),
    at: datetime = NOW,
    kind: str = "Ready",
    **spec: Any,
) -> Condition:
    if ingress_spec is not None:
        spec["ingress"] = ingress_spec
    endpoint = parse({"metadata": {"name": "w", "namespace": "n", "uid": "u"}, "spec": spec}, SETTINGS)
    children = [child(DEPLOYMENT, deployment), *others]
    if ingress is not None:
        names = {"static_ip_name": spec.get("staticIPName", ""), "secrets": ("tls",)}
        children.append(child(INGRESS, ingress, controller_wrote=WROTE, ingress_class="gce", **names))
    seen = Observed({(each.kind, each.name): each for each in children}, pods=pods, warnings=warnings)
    found = conditions.of(endpoint, seen, Outcome(), Previous(before or {}, 1), at)
    return next(each for each in found if each.type == kind)


def said(found: Condition) -> dict[str, Any]:
    """As a status that says so, of an endpoint that was not stalled."""
    condition = {"type": "Ready", "status": found.status, "reason": found.reason, "message": found.message}
    return {"conditions": [{**condition, "observedGeneration": 1}]}


def said_of_status(found: Condition) -> dict[str, Any]:
    """As a whole status, Stalled included."""
    (ready,) = said(found)["conditions"]
    return {
        "conditions": [
            ready,
            *([{**ready, "type": "Stalled", "status": "True"}] if found.needs_action else []),
        ]
    }
