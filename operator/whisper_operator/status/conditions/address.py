"""AddressAssigned: whether the load balancer has its address, or what its controller says is wrong with the Ingress."""

import re
from datetime import datetime

from whisper_operator.kube.kinds import COMPUTE_ADDRESS, INGRESS
from whisper_operator.kube.objects import condition
from whisper_operator.observed.children import SHARED_CERTIFICATES, Child, Observed
from whisper_operator.observed.warnings import SYNC, TRANSLATE
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.spec.exposure import INTERNAL, Public
from whisper_operator.status.condition import Condition, Fault, Previous
from whisper_operator.status.conditions import standing_warnings

PASSING = ("networkEndpointGroups/",)
"""What a controller says of objects that are on their way: normal at first."""

STATIC_IP = re.compile(r"static IP name (\S+) doesn't translate")

BARE = "The load balancer has no address yet, which takes a few minutes at first."

SECRET = re.compile(r'secrets? "([^"]*)" (not found|does not exist|does not specify .*)')
CERTIFICATE = re.compile(r"sslCertificates/([^' ]+)' was not found")

MANAGED = "mcrt-"
"""How the names begin of the certificates that GKE makes for ManagedCertificates."""

UNKNOWN_SECONDS = 10.0
"""How long the controller of a load balancer that serves has to complain of what is not known here: it tries again at once."""

WAITS = "CertificatePending"
"""The reason where CertificateReady knows the cause."""

NO_STATIC_IP = "StaticIPNotFound"
"""The reason where the project has no such address, or not yet."""

LEARNED = (
    NO_STATIC_IP,
    "TLSSecretMissing",
    "CertificateNotFound",
    "PolicyNotFound",
    "FrontendConfigMissing",
    "NoHTTPAndNoCertificate",
    "LoadBalancerQuota",
    WAITS,
    "SyncFailed",
)
"""Reasons that come from events, which expire."""

PASSING_REASONS = (WAITS, "FrontendConfigMissing", "SyncFailed")
"""Those of what may pass without anybody's doing; NO_STATIC_IP does too, while Config Connector is to reserve the address."""


def conditions(
    endpoint: WhisperEndpoint | SpecError, observed: Observed, previous: Previous, now: datetime
) -> list[Condition]:
    """AddressAssigned, where there is or should be an Ingress."""
    public = endpoint.public if isinstance(endpoint, WhisperEndpoint) else None
    ingress = next(iter(observed.of_kind(INGRESS)), None)
    if public is None and (isinstance(endpoint, WhisperEndpoint) or ingress is None):
        return []
    if observed.address:
        message = f"The load balancer has the address {observed.address}."
        return [Condition("AddressAssigned", "True", "Assigned", message)]
    fault = _fault(ingress, public, observed, now) if ingress else None
    if fault is not None:
        return [Condition("AddressAssigned", "False", fault.reason, fault.message, fault.needs_action)]
    learned = previous.message("AddressAssigned", *LEARNED)
    if learned is not None and ingress is not None:
        reason, message = learned
        reserving = reason == NO_STATIC_IP and public is not None and public.reserve_static_ip
        passing = reserving or reason in PASSING_REASONS
        return [Condition("AddressAssigned", "False", reason, message, not passing)]
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


def refused(endpoint: WhisperEndpoint | SpecError, observed: Observed, now: datetime) -> Fault | None:
    """What the controller won't change a load balancer for that has its address, and serves as it was before."""
    ingress = next(iter(observed.of_kind(INGRESS)), None)
    if isinstance(endpoint, SpecError) or endpoint.public is None or ingress is None or not observed.address:
        return None
    return _fault(ingress, endpoint.public, observed, now)


def _fault(ingress: Child, public: Public | None, observed: Observed, now: datetime) -> Fault | None:
    """What the controller complains of: rather what is known, and then what it said last."""
    warnings = [
        warning
        for warning in standing_warnings.standing(ingress, observed, now)
        if not any(mark in warning.words for mark in PASSING) and not _is_over(ingress, warning.words)
    ]
    known = (_known(ingress, public, warning.words, observed) for warning in warnings)
    found = next((each for each in known if each is not None), None)
    if found is not None:
        return found
    serves = observed.address is not None
    for warning in warnings:
        if warning.reason in (SYNC, TRANSLATE) and (not serves or warning.lasted >= UNKNOWN_SECONDS):
            what = "can't bring its load balancer in line" if serves else "can't make its load balancer"
            return Fault(
                "SyncFailed",
                f"The controller of Ingress {ingress.name} {what}, and tries again: {warning.words}",
                needs_action=False,
            )
    return None


def _is_over(ingress: Child, words: str) -> bool:
    """Whether it is about an address or a certificate that the Ingress names no more."""
    shared = ingress.annotations.get(SHARED_CERTIFICATES, "").split(",")
    named = (
        (STATIC_IP, (ingress.static_ip_name,)),
        (SECRET, ingress.secrets),
        (CERTIFICATE, tuple(each.strip() for each in shared)),
    )
    return any((found := pattern.search(words)) and found[1] not in names for pattern, names in named)


def _known(ingress: Child, public: Public | None, words: str, observed: Observed) -> Fault | None:
    served = (ingress.status.get("loadBalancer") or {}).get("ingress")
    stays = "'s load balancer stays as it was" if served else " has no load balancer"
    where = f"Ingress {ingress.name}{stays}: "
    if found := STATIC_IP.search(words):
        return _no_static_ip(where, ingress, found[1], public, observed)
    if found := SECRET.search(words):
        wrong = found[2] if found[2].startswith("does not specify") else "does not exist"
        asked = public is not None and public.tls == "secret" and public.certificate == found[1]
        by = "spec.ingress.tls.secretName names" if asked else _by_hand(ingress, "spec.tls names")
        return Fault(
            "TLSSecretMissing",
            f"{where}Secret {ingress.namespace}/{found[1]}, which {by}, {wrong}: "
            f"create it with kubectl create secret tls -n {ingress.namespace} {found[1]} --cert=FILE --key=FILE, or "
            "name another.",
        )
    if (found := CERTIFICATE.search(words)) and found[1].startswith(MANAGED):
        return Fault(
            WAITS,
            f"{where}it waits for a managed certificate that Google has not made yet; CertificateReady says more of it.",
            needs_action=False,
        )
    if found := CERTIFICATE.search(words):
        asked = public is not None and public.tls == "preSharedCert" and public.certificate == found[1]
        by = "spec.ingress.tls.preSharedCert names" if asked else _by_hand(ingress, "an annotation names")
        return Fault(
            "CertificateNotFound",
            f"{where}the project has no certificate {found[1]}, which {by}: create it with "
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


def _by_hand(ingress: Child, what: str) -> str:
    """Of what no field of spec is for."""
    return f"{what} in the Ingress itself, by somebody's edit (kubectl edit ingress -n {ingress.namespace} {ingress.name})"


def _no_static_ip(where: str, ingress: Child, name: str, public: Public | None, observed: Observed) -> Fault:
    if public is not None and public.reserve_static_ip:
        says = _reservation(observed)
        return Fault(
            NO_STATIC_IP,
            f"{where}the address {name} is not reserved yet"
            + (f". Config Connector says: {says}" if says else "")
            + f"; if it lasts: kubectl describe computeaddress -n {ingress.namespace} {name}",
            needs_action=False,
        )
    region = (
        "--region=REGION --subnet=SUBNET --purpose=SHARED_LOADBALANCER_VIP"
        if ingress.ingress_class == INTERNAL
        else "--global"
    )
    return Fault(
        NO_STATIC_IP,
        f"{where}the project has no address named {name}: reserve it with gcloud compute addresses create {name} {region}, "
        "or correct spec.staticIPName.",
    )


def _reservation(observed: Observed) -> str:
    """What Config Connector says of the address that it is to reserve."""
    for child in observed.of_kind(COMPUTE_ADDRESS):
        ready = condition(child.status, "Ready")
        if ready.get("status") == "False" and ready.get("message"):
            return str(ready["message"]).rstrip(".")
        warning = standing_warnings.newest(observed.warned(child.uid))
        if warning is not None:
            return warning.words.rstrip(".")
    return ""
