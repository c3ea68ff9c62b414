"""The conditions of an endpoint: what is true of it, why, and what a person should do next.

Reasons are stable words for programs; messages are for people and may change.
"""

from collections.abc import Mapping
from typing import Any

from whisper_operator import autoscaling
from whisper_operator.condition import Condition
from whisper_operator.endpoint import SpecError, WhisperEndpoint
from whisper_operator.kinds import DEPLOYMENT, INGRESS, MANAGED_CERTIFICATE
from whisper_operator.manifests.frontendconfig import serves_https
from whisper_operator.observed import Child, Observed
from whisper_operator.outcome import Outcome

CERTIFICATE_ADVICE = {
    "FailedNotVisible": "Google does not find the load balancer under that name: create the DNS record in status.dns, "
    "then wait up to an hour.",
    "FailedCaaChecking": "Google could not read the name's CAA records: check the zone's DNS servers.",
    "FailedCaaForbidden": "the name's CAA records forbid it: allow pki.goog there.",
    "FailedRateLimited": "Google's certificate authority limits the rate for that domain: wait, it tries again.",
    "ProvisioningFailed": "Google tries again by itself; see the ManagedCertificate's events.",
    "ProvisioningFailedPermanently": "Google will not make it: check the host name, then delete the ManagedCertificate "
    "to start over.",
    "RenewalFailed": "it could not be renewed: check that DNS still points at status.address.",
}


HOPELESS = {"FailedCaaForbidden", "ProvisioningFailedPermanently"}
"""Where Google does not try again until somebody acts."""


def of(endpoint: WhisperEndpoint | SpecError, observed: Observed, outcome: Outcome) -> list[Condition]:
    """Every condition that applies, in the order people read them."""
    deployments = observed.of_kind(DEPLOYMENT)
    deployment = deployments[0] if deployments else None
    found = [_available(endpoint, deployment)]
    if _is_public(endpoint, observed):
        found.append(_address(observed))
    certificates = [child for child in observed.of_kind(MANAGED_CERTIFICATE) if not child.deleting]
    hosts = _certified_hosts(endpoint, certificates)
    if hosts:
        found.append(_certificate(hosts, certificates))
    found += autoscaling.conditions(endpoint, observed)
    ready = (
        _obstacle(endpoint, outcome)
        or _rollout(endpoint, deployment)
        or _unmet(found[1:])
        or _redirect(endpoint, observed)
        or _ready()
    )
    found.append(ready)
    if ready.alarming:
        found.append(Condition("Stalled", "True", ready.reason, ready.message, alarming=True))
    return found


def _is_public(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> bool:
    if isinstance(endpoint, WhisperEndpoint):
        return endpoint.public is not None
    return bool(observed.of_kind(INGRESS))


def _available(endpoint: WhisperEndpoint | SpecError, deployment: Child | None) -> Condition:
    serving = deployment.status.get("availableReplicas", 0) if deployment else 0
    if serving:
        wanted = deployment.spec.get("replicas", 1) if deployment else 0
        return Condition("Available", "True", "Serving", f"{serving} of {wanted} replicas serve requests.")
    if isinstance(endpoint, WhisperEndpoint) and endpoint.suspend:
        return Condition("Available", "False", "Suspended", "spec.suspend is true: nothing runs.")
    if deployment is None:
        return Condition("Available", "False", "NotDeployed", "There is no Deployment yet.")
    return Condition(
        "Available", "False", "NoReplicaReady", f"No replica is ready yet. {_trouble(deployment)}".strip()
    )


def _address(observed: Observed) -> Condition:
    if observed.address:
        return Condition(
            "AddressAssigned", "True", "Assigned", f"The load balancer has the address {observed.address}."
        )
    return Condition(
        "AddressAssigned",
        "False",
        "AddressPending",
        "The load balancer has no address yet, which takes a few minutes at first; if it lasts, see the Ingress's events.",
    )


def _certified_hosts(endpoint: WhisperEndpoint | SpecError, certificates: list[Child]) -> list[str]:
    """The hosts that should have a managed certificate; of a spec that can't be read, those that have one."""
    if isinstance(endpoint, SpecError):
        return [child.certified_host for child in certificates]
    return list(endpoint.public.hosts) if endpoint.public and endpoint.public.tls == "managed" else []


def _certificate(hosts: list[str], certificates: list[Child]) -> Condition:
    live = {child.certified_host: child.status for child in certificates}
    waiting = [host for host in hosts if live.get(host, {}).get("certificateStatus") != "Active"]
    if not waiting:
        return Condition("CertificateReady", "True", "Active", "Every host has a certificate.")
    for host in waiting:
        status = live.get(host, {})
        domain = next((entry.get("status", "") for entry in status.get("domainStatus") or ()), "")
        trouble = domain if domain in CERTIFICATE_ADVICE else status.get("certificateStatus")
        if trouble in CERTIFICATE_ADVICE:
            message = f"Certificate of {host}: {CERTIFICATE_ADVICE[trouble]}"
            return Condition("CertificateReady", "False", trouble, message, trouble in HOPELESS)
    return Condition(
        "CertificateReady",
        "False",
        "Provisioning",
        f"Google is making the certificate of {', '.join(waiting)}: it needs the DNS record in status.dns, and 15 to "
        "60 minutes.",
    )


def _obstacle(endpoint: WhisperEndpoint | SpecError, outcome: Outcome) -> Condition | None:
    """What keeps the spec from being written to the cluster at all."""
    if isinstance(endpoint, SpecError):
        return _not_ready(endpoint.reason, endpoint.message, alarming=True)
    if outcome.conflicts:
        names = ", ".join(f"{manifest.kind.qualified} {manifest.name}" for manifest in outcome.conflicts)
        reserved = any(not manifest.kind.owned for manifest in outcome.conflicts)
        remedy = (
            "the address is reserved already, leave out ingress.reserveStaticIP"
            if reserved
            else "delete or rename it, or name the endpoint differently"
        )
        return _not_ready(
            "NameConflict",
            f"An object that is not this endpoint's has the name of one of its own: {names}. It was not touched, and "
            f"nothing else was written: {remedy}.",
            alarming=True,
        )
    if outcome.missing_kinds:
        names = ", ".join(kind.qualified for kind in outcome.missing_kinds)
        return _not_ready(
            "KindNotInstalled",
            f"The cluster does not have {names}. GKE has what a public endpoint needs; elsewhere, set ingress.class to that of "
            "an ingress controller. ingress.reserveStaticIP needs Config Connector. Without spec.host no such kind is needed.",
            alarming=True,
        )
    if outcome.refusals:
        text = "; ".join(f"{what}: {words}" for what, words in outcome.refusals)
        return _not_ready("ApplyRefused", f"The API server refused {text}", alarming=True)
    if outcome.waiting:
        return _not_ready("DeletionPending", f"Waiting until it is deleted: {', '.join(outcome.waiting)}.")
    return None


def _rollout(endpoint: WhisperEndpoint | SpecError, deployment: Child | None) -> Condition | None:
    if isinstance(endpoint, WhisperEndpoint) and endpoint.suspend:
        return _not_ready(
            "Suspended", "spec.suspend is true: nothing runs; address and certificate are kept."
        )
    if deployment is None:
        return _not_ready("NotDeployed", "There is no Deployment yet.")
    live, wanted = deployment.status, deployment.spec.get("replicas", 1)
    if isinstance(endpoint, WhisperEndpoint) and endpoint.autoscaling is not None:
        wanted = min(
            wanted, endpoint.autoscaling.minimum
        )  # more are on their way when the load asks for them
    if live.get("observedGeneration", 0) < deployment.generation:
        return _not_ready("RollingOut", "The Deployment has not taken up the change yet.")
    stuck = _deployment_condition(deployment, "Progressing")
    if stuck.get("reason") == "ProgressDeadlineExceeded":
        return _not_ready(
            "RolloutStuck",
            f"The rollout made no progress for half an hour. {_trouble(deployment)} See the pods' events; if a second GPU "
            "is not to be had, set rollout: Recreate.",
            alarming=True,
        )
    updated, available = live.get("updatedReplicas", 0), live.get("availableReplicas", 0)
    if updated < wanted or available < wanted or live.get("replicas", 0) > updated:
        return _not_ready(
            "RollingOut",
            f"{updated} of {wanted} replicas are of the current spec, {available} serve. {_trouble(deployment)}".strip(),
        )
    return None


def _trouble(deployment: Child) -> str:
    failure = _deployment_condition(deployment, "ReplicaFailure")
    return str(failure.get("message", "")) if failure.get("status") == "True" else ""


def _deployment_condition(deployment: Child, name: str) -> Mapping[str, Any]:
    found = (entry for entry in deployment.status.get("conditions") or () if entry["type"] == name)
    return next(found, {})


def _unmet(others: list[Condition]) -> Condition | None:
    for condition in others:
        if condition.status != "True":
            return _not_ready(condition.reason, condition.message, alarming=condition.alarming)
    return None


def _redirect(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> Condition | None:
    public = endpoint.public if isinstance(endpoint, WhisperEndpoint) else None
    if public is None or not public.https_redirect:
        return None
    if isinstance(endpoint, WhisperEndpoint) and serves_https(endpoint.name, public, observed):
        return None
    return _not_ready(
        "RedirectPending",
        "HTTP is served, and redirected to HTTPS once the load balancer has the certificate of spec.ingress.tls; if it lasts, "
        "see the Ingress's events.",
    )


def _not_ready(reason: str, message: str, *, alarming: bool = False) -> Condition:
    return Condition("Ready", "False", reason, message, alarming)


def _ready() -> Condition:
    return Condition("Ready", "True", "Ready", "The current spec is served, with all it asks for.")
