"""ManagedCertificate: one for each host, since GKE throws a certificate away when its list of domains changes."""

import hashlib

from whisper_operator.kube.kinds import MANAGED_CERTIFICATE
from whisper_operator.manifests.manifest import Manifest, manifest
from whisper_operator.spec.endpoint import WhisperEndpoint


def of(endpoint: WhisperEndpoint) -> list[Manifest]:
    if endpoint.public is None or endpoint.public.tls != "managed":
        return []
    return [
        manifest(
            MANAGED_CERTIFICATE, endpoint, {"domains": [host]}, name=certificate_name(endpoint.name, host)
        )
        for host in endpoint.public.hosts
    ]


def certificate_name(endpoint: str, host: str) -> str:
    """The name of the certificate of one host: it changes with the host, so that no certificate ever changes its domain."""
    return f"{endpoint}-{hashlib.sha256(host.encode()).hexdigest()[:8]}"
