"""Speeds and faults of the stand-in, from ConfigMaps that may be changed while it runs.

The ConfigMap `gke-stand-in` in kube-system holds for all, one of that name in a namespace overrides it there, key by key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CONFIG_MAP = "gke-stand-in"
SYSTEM_NAMESPACE = "kube-system"

OUTCOMES = {
    "Active": ("Active", "Active"),
    "Provisioning": ("Provisioning", "Provisioning"),
    "FailedNotVisible": ("Provisioning", "FailedNotVisible"),
    "FailedCaaChecking": ("Provisioning", "FailedCaaChecking"),
    "FailedCaaForbidden": ("ProvisioningFailed", "FailedCaaForbidden"),
    "FailedRateLimited": ("Provisioning", "FailedRateLimited"),
    "ProvisioningFailed": ("ProvisioningFailed", "FailedNotVisible"),
    "ProvisioningFailedPermanently": ("ProvisioningFailedPermanently", "FailedNotVisible"),
    "RenewalFailed": ("RenewalFailed", "FailedNotVisible"),
}
"""What a certificate may come to: the certificate's status and the domain's."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds."""

    certificates: str = "Active"
    """What certificates come to, a key of OUTCOMES."""
    certificate_of: Mapping[str, str] = field(default_factory=dict)
    """The same for single domains: ConfigMap keys `certificate.DOMAIN`."""
    certificate_seconds: float = 2.0
    """From being attached to a load balancer to the outcome."""
    address_seconds: float = 1.0
    """From a load balancer that can be set up to its address."""
    neg_seconds: float = 0.5
    """From a Service that an Ingress refers to, to its network endpoint group."""
    finalizer_seconds: float = 2.0
    """How long the Ingress's finalizer is held on deletion."""
    missing_static_ips: frozenset[str] = frozenset({"nosuch"})
    missing_certificates: frozenset[str] = frozenset({"nosuch"})
    """Names of static addresses, and of pre-shared certificates, that don't exist in the project; all others do."""
    no_address: bool = False
    """Load balancers never get an address, and nothing says why."""
    neg_error: str = ""
    """Why network endpoint groups can't be kept, in Google's words; empty: they can."""
    sync_error: str = ""
    """Why load balancers can't be brought in line, in Google's words; empty: they can."""
    certificate_error: str = ""
    """Why Google makes no certificate, in its own words; empty: it does."""
    scale_up: str = ""
    """Why the autoscaler can make no more nodes, in its own words; empty: it is silent."""

    def outcome(self, domain: str) -> tuple[str, str]:
        """Certificate status and domain status that `domain` comes to."""
        return OUTCOMES[self.certificate_of.get(domain, self.certificates)]


def parse(data: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from a ConfigMap's data, and a complaint for each entry that makes no sense, which is then left out."""
    values: dict[str, object] = {}
    domains: dict[str, str] = {}
    complaints: list[str] = []
    for key, text in data.items():
        try:
            if key.startswith("certificate."):
                domains[key.removeprefix("certificate.")] = _outcome(text)
            else:
                name, convert = _KEYS[key]
                values[name] = convert(text)
        except KeyError:
            complaints.append(f"{key} is no setting: use {', '.join(_KEYS)} or certificate.DOMAIN")
        except ValueError as error:
            complaints.append(f"{key}: {error}")
    return Settings(certificate_of=domains, **values), complaints  # type: ignore[arg-type]


def _outcome(text: str) -> str:
    if text not in OUTCOMES:
        raise ValueError(f"{text!r} is none of {', '.join(OUTCOMES)}")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{text!r} is no time in seconds")
    return seconds


def _names(text: str) -> frozenset[str]:
    return frozenset(text.replace(",", " ").split())


def _text(text: str) -> str:
    return text


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


_KEYS = {
    "certificates": ("certificates", _outcome),
    "certificateSeconds": ("certificate_seconds", _seconds),
    "addressSeconds": ("address_seconds", _seconds),
    "negSeconds": ("neg_seconds", _seconds),
    "finalizerSeconds": ("finalizer_seconds", _seconds),
    "missingStaticIPs": ("missing_static_ips", _names),
    "missingCertificates": ("missing_certificates", _names),
    "noAddress": ("no_address", _flag),
    "negError": ("neg_error", _text),
    "syncError": ("sync_error", _text),
    "certificateError": ("certificate_error", _text),
    "scaleUp": ("scale_up", _text),
}
