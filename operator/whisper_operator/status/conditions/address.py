"""AddressAssigned: whether the load balancer has its address, or what its controller says is wrong with the Ingress."""

import re

from whisper_operator.kube.kinds import INGRESS
from whisper_operator.observed.children import Child, Observed
from whisper_operator.observed.pods import Warning
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.spec.exposure import Public
from whisper_operator.status.condition import Condition, Fault, Previous

PASSING = ("networkEndpointGroups/", "MissingCertificate")
"""What a controller says of objects that are on their way: normal at first."""

STATIC_IP = re.compile(r"static IP name (\S+) doesn't translate")

BARE = "The load balancer has no address yet, which takes a few minutes at first."

SECRET = re.compile(r'secrets? "([^"]*)" (not found|does not exist|does not specify .*)')
CERTIFICATE = re.compile(r"sslCertificates/([^' ]+)' was not found")

VISIBLY_MENDED = {"StaticIPNotFound", "TLSSecretMissing", "CertificateNotFound"}
"""Reasons after whose mending the controller writes to the Ingress; that others were mended, nobody would see."""

LEARNED = (
    "StaticIPNotFound",
    "TLSSecretMissing",
    "CertificateNotFound",
    "PolicyNotFound",
    "FrontendConfigMissing",
    "NoHTTPAndNoCertificate",
    "LoadBalancerQuota",
    "SyncFailed",
)
"""Reasons that come from events, which expire."""


def conditions(
    endpoint: WhisperEndpoint | SpecError, observed: Observed, previous: Previous
) -> list[Condition]:
    """AddressAssigned, where there is or should be an Ingress."""
    public = endpoint.public if isinstance(endpoint, WhisperEndpoint) else None
    ingress = next(iter(observed.of_kind(INGRESS)), None)
    if public is None and (isinstance(endpoint, WhisperEndpoint) or ingress is None):
        return []
    if observed.address:
        message = f"The load balancer has the address {observed.address}."
        return [Condition("AddressAssigned", "True", "Assigned", message)]
    fault = _fault(ingress, public, observed.warned(ingress.uid)) if ingress else None
    if fault is not None:
        return [Condition("AddressAssigned", "False", fault.reason, fault.message, fault.needs_action)]
    learned = previous.message("AddressAssigned", *LEARNED)
    if learned is not None and ingress is not None:
        reason, message = learned
        return [Condition("AddressAssigned", "False", reason, message, reason != "SyncFailed")]
    return [
        Condition(
            "AddressAssigned",
            "False",
            "AddressPending",
            f"{BARE} If it lasts: kubectl describe ingress -n {ingress.namespace} {ingress.name}"
            if ingress
            else BARE,
        )
    ]


def refused(endpoint: WhisperEndpoint | SpecError, observed: Observed) -> Fault | None:
    """What the controller won't change a load balancer for that has its address, and serves as it was before."""
    ingress = next(iter(observed.of_kind(INGRESS)), None)
    if isinstance(endpoint, SpecError) or endpoint.public is None or ingress is None or not observed.address:
        return None
    warnings = sorted(observed.warned(ingress.uid), key=lambda each: each.words)
    faults = (
        _fault(ingress, endpoint.public, [each]) for each in warnings if each.at > ingress.controller_wrote
    )
    return next((found for found in faults if found is not None and found.reason in VISIBLY_MENDED), None)


def _fault(ingress: Child, public: Public | None, warnings: list[Warning]) -> Fault | None:
    """What the controller complains of: rather what it names than what it only passes on."""
    unknown: Fault | None = None
    for warning in sorted(warnings, key=lambda each: each.words):
        if any(mark in warning.words or mark == warning.reason for mark in PASSING):
            continue
        if _is_over(public, warning.words):
            continue
        known = _known(ingress, public, warning.words)
        if known is not None:
            return known
        if warning.reason in ("Sync", "Translate"):
            unknown = Fault(
                "SyncFailed",
                f"The controller of Ingress {ingress.name} can't make its load balancer, and tries again: {warning.words}",
                needs_action=False,
            )
    return unknown


def _is_over(public: Public | None, words: str) -> bool:
    """Whether it is about an address or a certificate that was asked for before."""
    if public is None:
        return False
    asked = (
        (STATIC_IP, public.static_ip_name),
        (SECRET, public.certificate if public.tls == "secret" else None),
        (CERTIFICATE, public.certificate if public.tls == "preSharedCert" else None),
    )
    return any((found := pattern.search(words)) and found[1] != name for pattern, name in asked)


def _known(ingress: Child, public: Public | None, words: str) -> Fault | None:
    served = (ingress.status.get("loadBalancer") or {}).get("ingress")
    stays = "'s load balancer stays as it was" if served else " has no load balancer"
    where = f"Ingress {ingress.name}{stays}: "
    if found := STATIC_IP.search(words):
        return _no_static_ip(where, ingress.namespace, found[1], public)
    if found := SECRET.search(words):
        wrong = found[2] if found[2].startswith("does not specify") else "does not exist"
        return Fault(
            "TLSSecretMissing",
            f"{where}Secret {ingress.namespace}/{found[1]}, which spec.ingress.tls.secretName names, {wrong}: "
            f"create it with kubectl create secret tls -n {ingress.namespace} {found[1]} --cert=FILE --key=FILE, or "
            "name another.",
        )
    if found := CERTIFICATE.search(words):
        return Fault(
            "CertificateNotFound",
            f"{where}the project has no certificate {found[1]}, which spec.ingress.tls.preSharedCert names: create it with "
            f"gcloud compute ssl-certificates create {found[1]} --certificate=FILE --private-key=FILE, or name another.",
        )
    if found := re.search(
        r"(ssl|security)Polic(?:ies/|y )\"?([-a-z0-9]+)\"?.*(?:not found|does not exist)", words
    ):
        return Fault(
            "PolicyNotFound",
            f"{where}the project has no policy {found[2]}, which spec.ingress.{found[1]}Policy names: create it, or name "
            "another.",
        )
    if "no FrontendConfig" in words:
        return Fault(
            "FrontendConfigMissing",
            f"{where}its FrontendConfig is missing, and the operator makes it again; if it lasts, look for who deletes it.",
            needs_action=False,
        )
    if "both HTTP and HTTPS are disabled" in words:
        return Fault(
            "NoHTTPAndNoCertificate",
            f"{where}somebody switched HTTP off by an annotation, and there is no certificate yet: kubectl annotate ingress -n "
            f"{ingress.namespace} {ingress.name} kubernetes.io/ingress.allow-http- takes it away; spec.ingress.httpsRedirect "
            "does what it was meant for.",
        )
    if re.search(r"limitExceeded|quotaExceeded|QUOTA_EXCEEDED|Quota '", words):
        return Fault(
            "LoadBalancerQuota",
            f"{where}a quota of the project is used up; raise it in the Google Cloud console, or delete what is not needed. "
            f"Google says: {words}",
        )
    return None


def _no_static_ip(where: str, namespace: str, name: str, public: Public | None) -> Fault:
    if public is not None and public.reserve_static_ip:
        return Fault(
            "StaticIPNotFound",
            f"{where}the address {name} is not reserved yet; if it lasts: kubectl describe computeaddress -n {namespace} {name}",
            needs_action=False,
        )
    region = (
        "--region=REGION --subnet=SUBNET --purpose=SHARED_LOADBALANCER_VIP"
        if public and public.ingress_class != "gce"
        else "--global"
    )
    return Fault(
        "StaticIPNotFound",
        f"{where}the project has no address named {name}: reserve it with gcloud compute addresses create {name} {region}, "
        "or correct spec.staticIPName.",
    )
