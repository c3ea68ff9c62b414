"""The status of an endpoint, purely from: the endpoint, its live children, what came of the last plan, the status before."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from whisper_operator.apply.outcome import Outcome
from whisper_operator.kube.kinds import DEPLOYMENT, MANAGED_CERTIFICATE
from whisper_operator.kube.objects import condition as find
from whisper_operator.manifests.deployment import HTTP_PORT
from whisper_operator.manifests.manifest import selector
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status import conditions
from whisper_operator.status.condition import SUSPENDED, Condition, Previous
from whisper_operator.status.conditions import standing_warnings

LONGEST_MESSAGE = 32768
"""Characters of a condition's message that the CRD takes; what refuses a write may say more."""


@dataclass(frozen=True)
class Report:
    """What to tell the endpoint's users."""

    patch: Mapping[str, Any]
    """JSON merge patch of the status subresource; empty when nothing changed."""
    events: tuple[Mapping[str, str], ...]
    """type, reason and message of the Events to publish."""
    next_look: float | None = None
    """Seconds until something that is told now may be over without any news; None: an event will come."""


def of(
    resource: Mapping[str, Any],
    endpoint: WhisperEndpoint | SpecError,
    observed: Observed,
    outcome: Outcome,
    now: datetime,
) -> Report:
    """What changed since the status that `resource` carries."""
    previous = Previous.of(resource)
    before, generation = previous.status, previous.generation
    found = conditions.of(endpoint, observed, outcome, previous, now)
    status = {
        "observedGeneration": generation,
        "conditions": [_stamped(condition, before, generation, now) for condition in found],
        **_workload(resource["metadata"]["name"], observed),
        **_public(endpoint, observed),
    }
    if isinstance(endpoint, SpecError):
        # What runs is what was last understood.
        kept = ("effective", "url", "internalURL", "dns")
        status |= {name: before[name] for name in kept if name in before}
    else:
        status |= _addresses(endpoint)
        if outcome.held is not None:
            status["effective"] = _as_it_runs(status["effective"], before.get("effective"))
    return Report(
        merge_patch(before, status), tuple(_events(found, before)), standing_warnings.next_look(observed, now)
    )


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns one mapping into the other; empty when they are equal."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            below = merge_patch(old, value)
            if below:
                patch[name] = below
        elif name not in before or old != value:
            patch[name] = value
    return patch


def _workload(name: str, observed: Observed) -> dict[str, Any]:
    deployment = observed.only(DEPLOYMENT, name)
    live = deployment.status if deployment else {}
    return {
        "replicas": live.get("replicas", 0),
        "readyReplicas": live.get("readyReplicas", 0),
        "selector": ",".join(f"{label}={value}" for label, value in selector(name).items()),
    }


def _as_it_runs(next_: Mapping[str, Any], before: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What is told while the Deployment is held: of it, what was told before."""
    if not before:
        return next_
    of_others = ("replicas", "minReplicas", "maxReplicas", "tls")
    kept = {name: value for name, value in before.items() if name not in of_others}
    return {**kept, **{name: value for name, value in next_.items() if name in of_others}}


def _addresses(endpoint: WhisperEndpoint) -> dict[str, Any]:
    public = endpoint.public
    effective = {
        "model": endpoint.model,
        "engine": endpoint.engine,
        "computeType": endpoint.compute_type,
        "device": "cuda" if endpoint.gpu else "cpu",
        "accelerator": endpoint.gpu.type if endpoint.gpu else None,
        "spot": endpoint.gpu.spot if endpoint.gpu else None,
        "image": endpoint.image,
        "replicas": endpoint.replicas,
        "minReplicas": endpoint.autoscaling.minimum if endpoint.autoscaling else None,
        "maxReplicas": endpoint.autoscaling.maximum if endpoint.autoscaling else None,
        "rollout": endpoint.rollout,
        "maxUploadBytes": endpoint.limits.max_upload_bytes,
        "maxAudioSeconds": endpoint.limits.max_audio_seconds,
        "maxQueue": endpoint.limits.max_queue,
        "requestTimeoutSeconds": endpoint.limits.request_timeout_seconds,
        "tls": public.tls if public else None,
    }
    status: dict[str, Any] = {
        "effective": {name: value for name, value in effective.items() if value is not None},
        "internalURL": f"http://{endpoint.name}.{endpoint.namespace}.svc:{HTTP_PORT}",
    }
    if public is not None:
        status["url"] = f"{'http' if public.tls == 'none' else 'https'}://{public.hosts[0]}"
    return status


def _public(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> dict[str, Any]:
    """What the load balancer and the certificates say, and the DNS records they wait for."""
    status: dict[str, Any] = {}
    # The CRD has each host once. Two certificates with one host are somebody's edit: the first by name is told.
    certificates = {
        child.certified_host: {
            "host": child.certified_host,
            "name": child.name,
            **_present("status", child.status.get("certificateStatus")),
            **_present("domainStatus", _domain_status(child.status)),
        }
        for child in sorted(observed.of_kind(MANAGED_CERTIFICATE), key=lambda child: child.name, reverse=True)
    }
    if certificates:
        status["certificates"] = [certificates[host] for host in sorted(certificates)]
    address = observed.address
    if address is not None:
        status["address"] = address
        hosts = endpoint.public.hosts if isinstance(endpoint, WhisperEndpoint) and endpoint.public else ()
        record = "AAAA" if ":" in address else "A" if address.replace(".", "").isdigit() else "CNAME"
        if hosts:
            status["dns"] = [{"name": host, "type": record, "value": address} for host in hosts]
    return status


def _domain_status(status: Mapping[str, Any]) -> str | None:
    for domain in status.get("domainStatus") or ():
        return str(domain.get("status"))
    return None


def _present(name: str, value: str | None) -> dict[str, str]:
    return {name: value} if value else {}


def _stamped(
    condition: Condition, before: Mapping[str, Any], generation: int, now: datetime
) -> dict[str, Any]:
    """As metav1.Condition; the time is that of the last change of `status`."""
    old = find(before, condition.type)
    kept = old["lastTransitionTime"] if old and old["status"] == condition.status else None
    return {
        "type": condition.type,
        "status": condition.status,
        "observedGeneration": generation,
        "lastTransitionTime": kept or now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "reason": condition.reason,
        "message": condition.message[:LONGEST_MESSAGE],
    }


def _events(found: list[Condition], before: Mapping[str, Any]) -> list[dict[str, str]]:
    """An Event for each condition that turned, and for each new reason for which a person has to act. Stalled says the same as
    Ready; progress that passes by itself is in the status."""
    events = []
    for condition in found:
        old = find(before, condition.type)
        turned = condition.status != old.get("status", "False") and condition.type != "Stalled"
        new = old.get("reason") != condition.reason
        suspending = SUSPENDED in (condition.reason, old.get("reason"))
        if turned or (condition.type == "Ready" and (condition.needs_action or suspending) and new):
            kind = "Warning" if condition.needs_action else "Normal"
            said = condition.status != "True" or condition.reason == SUSPENDED
            reason = condition.reason if said else condition.type
            events.append({"type": kind, "reason": reason, "message": condition.message})
    # When an obstacle is another condition's, Ready repeats it: once is enough.
    return list({event["reason"]: event for event in events}.values())
