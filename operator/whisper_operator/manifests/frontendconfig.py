"""FrontendConfig: what GKE's load balancer does at its front door, the redirect to HTTPS and the SSL policy."""

from typing import Any

from whisper_operator.kube.kinds import FRONTEND_CONFIG, INGRESS, MANAGED_CERTIFICATE
from whisper_operator.manifests.managedcertificate import certificate_name
from whisper_operator.manifests.manifest import Manifest, manifest
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import WhisperEndpoint
from whisper_operator.spec.exposure import EXTERNAL, Public

ATTACHED = "ingress.kubernetes.io/ssl-cert"
"""GKE's list, on the Ingress, of the certificates that the load balancer has."""

FROM_SECRET = "k8s"
"""How GKE's names of certificates made of Secrets begin."""

SERVING = {"Active", "RenewalFailed"}
"""What a certificate says of itself while the load balancer has it: one that can't be renewed serves until it expires."""


def of(endpoint: WhisperEndpoint, observed: Observed) -> list[Manifest]:
    public = endpoint.public
    if public is None or not wanted(endpoint.name, public, observed):
        return []
    spec: dict[str, Any] = {}
    if public.ssl_policy is not None or _attached(endpoint.name, observed):
        spec["sslPolicy"] = public.ssl_policy or ""
    if public.https_redirect:
        # It comes when HTTPS works for every host, and goes before a host is added for which it does not work yet.
        spec["redirectToHttps"] = {"enabled": serves_https(endpoint.name, public, observed)}
    return [manifest(FRONTEND_CONFIG, endpoint, spec)]


def wanted(name: str, public: Public, observed: Observed) -> bool:
    """Whether there is something to say to the load balancer, be it to take a policy off."""
    asked = public.https_redirect or public.ssl_policy is not None
    return public.ingress_class == EXTERNAL and (asked or _attached(name, observed))


def _attached(name: str, observed: Observed) -> bool:
    """Whether a policy was asked for before. GKE takes a missing one for "leave what is attached", and "" for "take it off".

    Since nothing tells when it has done so, "" stays for as long as the load balancer is there.
    """
    live = observed.only(FRONTEND_CONFIG, name)
    return live is not None and live.owns("spec", "sslPolicy")


def serves_https(name: str, public: Public, observed: Observed) -> bool:
    """Whether the load balancer has been seen to have a certificate for every host."""
    if public.tls == "managed":
        live = (observed.only(MANAGED_CERTIFICATE, certificate_name(name, host)) for host in public.hosts)
        return all(child and child.status.get("certificateStatus") in SERVING for child in live)
    ingress = observed.only(INGRESS, name)
    attached = (ingress.annotations.get(ATTACHED, "") if ingress else "").split(",")
    if public.tls == "preSharedCert":
        return public.certificate in attached
    return public.tls == "secret" and any(each.startswith(FROM_SECRET) for each in attached)
