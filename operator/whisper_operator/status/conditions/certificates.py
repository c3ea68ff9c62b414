"""CertificateReady: whether every host has its managed certificate, and what Google waits for; and the redirect to HTTPS."""

from datetime import datetime

from whisper_operator.kube.kinds import MANAGED_CERTIFICATE
from whisper_operator.manifests.frontendconfig import serves_https
from whisper_operator.observed.children import Child, Observed
from whisper_operator.observed.warnings import BACKEND_ERROR, TOO_MANY_CERTIFICATES
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Condition, Fault, Previous
from whisper_operator.status.conditions import standing_warnings

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


def conditions(
    endpoint: WhisperEndpoint | SpecError, observed: Observed, previous: Previous, now: datetime
) -> list[Condition]:
    """CertificateReady, where there should be managed certificates."""
    certificates = {
        child.certified_host: child for child in observed.of_kind(MANAGED_CERTIFICATE) if not child.deleting
    }
    if isinstance(endpoint, SpecError):  # its hosts can't be read: those that have one
        hosts = list(certificates)
    else:
        hosts = list(endpoint.public.hosts) if endpoint.public and endpoint.public.tls == "managed" else []
    if not hosts:
        return []
    waiting = [host for host in hosts if host not in certificates or not _is_active(certificates[host])]
    if not waiting:
        return [Condition("CertificateReady", "True", "Active", "Every host has a certificate.")]
    faults = [
        _refused(certificates[host], observed, previous, now) or trouble(certificates[host])
        for host in waiting
        if host in certificates
    ]
    # One that somebody has to act for comes before one that Google tries again.
    found = min((each for each in faults if each), key=lambda each: not each.needs_action, default=None)
    if found is None:
        found = Fault(
            "Provisioning",
            f"Google is making the certificate of {', '.join(waiting)}: it needs the DNS record in status.dns, and 15 to "
            "60 minutes.",
            needs_action=False,
        )
    return [Condition("CertificateReady", "False", found.reason, found.message, found.needs_action)]


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


def _is_active(certificate: Child) -> bool:
    return certificate.status.get("certificateStatus") == "Active"


def _refused(certificate: Child, observed: Observed, previous: Previous, now: datetime) -> Fault | None:
    """Why Google's API takes no request for it, which is told by events alone."""
    where = f"ManagedCertificate {certificate.name} for {certificate.certified_host}: "
    for warning in standing_warnings.standing(certificate, observed, now):
        if warning.reason == TOO_MANY_CERTIFICATES:
            return Fault(
                TOO_MANY_CERTIFICATES,
                f"{where}the project's quota of SSL certificates is used up: raise it in the Google Cloud console, or delete "
                f"some that nothing uses (gcloud compute ssl-certificates list). Google says: {warning.words}",
            )
        if warning.reason == BACKEND_ERROR:
            return Fault(
                BACKEND_ERROR,
                f"{where}Google's API does not take the request, and is asked again: {warning.words}",
                needs_action=False,
            )
    learned = previous.message("CertificateReady", TOO_MANY_CERTIFICATES, BACKEND_ERROR)
    if learned is None or not learned[1].startswith(where) or certificate.status.get("certificateStatus"):
        return None
    return Fault(*learned, needs_action=learned[0] == TOO_MANY_CERTIFICATES)


def trouble(certificate: Child) -> Fault | None:
    """What Google says of it in its status."""
    overall = str(certificate.status.get("certificateStatus"))
    domain = next((str(entry.get("status")) for entry in certificate.status.get("domainStatus") or ()), "")
    candidates = (overall, domain) if overall in OVERALL else (domain, overall)
    reason = next((each for each in candidates if each in ADVICE), None)
    if reason is None:
        return None
    where = f"ManagedCertificate {certificate.name} for {certificate.certified_host}: "
    return Fault(reason, f"{where}{ADVICE[reason]}", reason in HOPELESS)
