"""CertificateReady: whether every host has its managed certificate, and what Google waits for; and the redirect to HTTPS."""

from collections.abc import Mapping
from typing import Any

from whisper_operator.kube.kinds import MANAGED_CERTIFICATE
from whisper_operator.manifests.frontendconfig import serves_https
from whisper_operator.observed.children import Child, Observed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Condition, Fault

ADVICE = {
    "FailedNotVisible": "Google does not find the load balancer under that name: create the DNS record in status.dns, "
    "then wait up to an hour.",
    "FailedCaaChecking": "Google could not read the name's CAA records: check the zone's DNS servers.",
    "FailedCaaForbidden": "the name's CAA records forbid it: allow pki.goog there.",
    "FailedRateLimited": "Google's certificate authority limits the rate for that domain: wait, it tries again.",
    "ProvisioningFailed": "Google could not make it, and tries again by itself: check that the DNS record in status.dns is "
    "there, and see the ManagedCertificate's events.",
    "ProvisioningFailedPermanently": "Google will not make it: check the host name, then delete the ManagedCertificate "
    "to start over.",
    "RenewalFailed": "it could not be renewed, and HTTPS ends when it expires: check that DNS still points at status.address.",
}
"""By the certificate's or the domain's status, in Google's words."""

OVERALL = {"ProvisioningFailedPermanently", "RenewalFailed"}
"""Where the certificate's status says more than the domain's."""

HOPELESS = {"FailedCaaForbidden", "ProvisioningFailedPermanently"}
"""Where Google does not try again until somebody acts."""


def conditions(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> list[Condition]:
    """CertificateReady, where there should be managed certificates."""
    certificates = [child for child in observed.of_kind(MANAGED_CERTIFICATE) if not child.deleting]
    if isinstance(endpoint, SpecError):  # its hosts can't be read: those that have one
        hosts = [child.certified_host for child in certificates]
    else:
        hosts = list(endpoint.public.hosts) if endpoint.public and endpoint.public.tls == "managed" else []
    return [_condition(hosts, certificates)] if hosts else []


def redirect(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> Fault | None:
    """That the redirect to HTTPS is asked for, and not there yet: without a certificate it would lead nowhere."""
    public = endpoint.public if isinstance(endpoint, WhisperEndpoint) else None
    if public is None or not public.https_redirect:
        return None
    if isinstance(endpoint, WhisperEndpoint) and serves_https(endpoint.name, public, observed):
        return None
    return Fault(
        "RedirectPending",
        "HTTP is served, and redirected to HTTPS once the load balancer has the certificate of spec.ingress.tls; if it lasts, "
        "see the Ingress's events.",
        needs_action=False,
    )


def _condition(hosts: list[str], certificates: list[Child]) -> Condition:
    live = {child.certified_host: child for child in certificates}
    waiting = [
        host for host in hosts if host not in live or live[host].status.get("certificateStatus") != "Active"
    ]
    if not waiting:
        return Condition("CertificateReady", "True", "Active", "Every host has a certificate.")
    troubles = [(host, _trouble(live[host].status)) for host in waiting if host in live]
    # One that somebody has to act for comes before one that Google tries again.
    for host, trouble in sorted(troubles, key=lambda pair: pair[1] not in HOPELESS):
        if trouble is not None:
            message = f"ManagedCertificate {live[host].name} for {host}: {ADVICE[trouble]}"
            return Condition("CertificateReady", "False", trouble, message, trouble in HOPELESS)
    return Condition(
        "CertificateReady",
        "False",
        "Provisioning",
        f"Google is making the certificate of {', '.join(waiting)}: it needs the DNS record in status.dns, and 15 to "
        "60 minutes.",
    )


def _trouble(status: Mapping[str, Any]) -> str | None:
    overall = str(status.get("certificateStatus"))
    domain = next((str(entry.get("status")) for entry in status.get("domainStatus") or ()), "")
    candidates = (overall, domain) if overall in OVERALL else (domain, overall)
    return next((each for each in candidates if each in ADVICE), None)
