"""Ingress: GKE's external HTTP(S) load balancer.

There is no spec.tls: one that names no Secret, or a missing one, stops GKE's whole load-balancer sync; managed
certificates hang on an annotation. The class is an annotation too, as GKE ignores spec.ingressClassName: gce.
"""

from typing import Any

from whisper_operator.endpoint import WhisperEndpoint
from whisper_operator.kinds import INGRESS
from whisper_operator.manifests.managedcertificate import certificate_name
from whisper_operator.manifests.manifest import Manifest, manifest


def of(endpoint: WhisperEndpoint) -> list[Manifest]:
    public = endpoint.public
    if public is None:
        return []
    annotations = {**public.annotations, "kubernetes.io/ingress.class": "gce"}
    if public.static_ip_name is not None:
        annotations["kubernetes.io/ingress.global-static-ip-name"] = public.static_ip_name
    if public.tls == "managed":
        names = [certificate_name(endpoint.name, host) for host in public.hosts]
        annotations["networking.gke.io/managed-certificates"] = ",".join(names)
    spec = {"rules": [_rule(host, endpoint.name) for host in public.hosts]}
    return [manifest(INGRESS, endpoint, spec, annotations=annotations)]


def _rule(host: str, service: str) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"name": "http"}}}
    return {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
