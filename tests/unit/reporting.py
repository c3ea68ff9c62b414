"""The status that is told of an endpoint whose children are in a certain state."""

from datetime import UTC, datetime
from typing import Any

from whisper_operator.apply.outcome import Outcome
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    INGRESS,
    MANAGED_CERTIFICATE,
    SERVICE,
    Kind,
)
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed, Owner
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint, parse
from whisper_operator.status import status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
SETTINGS = Settings(server_repository="r/whisper-server", server_version="1")
HOST = "w.example.com"
INGRESS_UP = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
ACTIVE = {"certificateStatus": "Active", "domainStatus": [{"domain": HOST, "status": "Active"}]}
SERVING = {
    "observedGeneration": 1,
    "replicas": 1,
    "updatedReplicas": 1,
    "readyReplicas": 1,
    "availableReplicas": 1,
}


def resource(before: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "w", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": "9"}
    return {"metadata": metadata, "spec": spec, "status": before or {}}


def child(kind: Kind, live: dict[str, Any], name: str = "w", **spec: Any) -> Child:
    return Child(kind, "n", name, "c", 1, 1, Owner("WhisperEndpoint", "w", "u"), False, "h", "{}", spec, live)


def observed(
    deployment: dict[str, Any] | None = None,
    ingress: dict[str, Any] | None = None,
    certificate: dict[str, Any] | None = None,
    replicas: int = 1,
) -> Observed:
    children = []
    if deployment is not None:
        children += [child(DEPLOYMENT, deployment, replicas=replicas), child(SERVICE, {})]
    if ingress is not None:
        children.append(child(INGRESS, ingress))
    if certificate is not None:
        children.append(child(MANAGED_CERTIFICATE, certificate, "w-1", domains=[HOST]))
    return Observed({(each.kind, each.name): each for each in children})


def told(
    seen: Observed,
    outcome: Outcome | None = None,
    endpoint: WhisperEndpoint | SpecError | None = None,
    before: dict[str, Any] | None = None,
    **spec: Any,
) -> status.Report:
    of = resource(before, **spec)
    return status.of(of, endpoint or parse(of, SETTINGS), seen, outcome or Outcome(), NOW)


def condition(report: status.Report, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {each["type"]: each for each in report.patch["conditions"]}
    return dict(found.get(name, {}))


NAME_TAKEN = Outcome(names_taken=(Manifest(INGRESS, "n", "w", {}),))
NOT_VISIBLE = {
    "certificateStatus": "Provisioning",
    "domainStatus": [{"domain": HOST, "status": "FailedNotVisible"}],
}


def apply(before: Any, patch: Any) -> dict[str, Any]:
    """RFC 7386, as the API server does it."""
    after = dict(before)
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, dict) and isinstance(after.get(name), dict):
            after[name] = apply(after[name], value)
        else:
            after[name] = value
    return after
