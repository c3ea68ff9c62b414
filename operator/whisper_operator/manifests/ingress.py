"""Ingress: GKE's HTTP(S) load balancer, or what another ingress controller makes of it.

On GKE, its class and its managed certificates are annotations: GKE ignores spec.ingressClassName: gce, and a spec.tls that
names no Secret, or a missing one, stops its whole load-balancer sync.
"""

from typing import Any

from whisper_operator.kube.kinds import CLASS_ANNOTATION, INGRESS, STATIC_IP_ANNOTATIONS
from whisper_operator.manifests import frontendconfig
from whisper_operator.manifests.managedcertificate import certificate_name
from whisper_operator.manifests.manifest import Manifest, manifest
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import WhisperEndpoint
from whisper_operator.spec.exposure import Public


def of(endpoint: WhisperEndpoint, observed: Observed) -> list[Manifest]:
    public = endpoint.public
    if public is None:
        return []
    spec: dict[str, Any] = {"rules": [_rule(host, endpoint.name) for host in public.hosts]}
    if public.tls == "secret":
        spec["tls"] = [{"hosts": list(public.hosts), "secretName": public.certificate}]
    annotations = dict(public.annotations)
    if public.on_gke:
        annotations |= _for_gke(endpoint.name, public, observed)
    else:
        spec["ingressClassName"] = public.ingress_class
    return [manifest(INGRESS, endpoint, spec, annotations=annotations)]


def _for_gke(name: str, public: Public, observed: Observed) -> dict[str, str]:
    annotations = {CLASS_ANNOTATION: public.ingress_class}
    if public.static_ip_name is not None:
        annotations[STATIC_IP_ANNOTATIONS[public.ingress_class]] = public.static_ip_name
    if public.tls == "managed":
        names = [certificate_name(name, host) for host in public.hosts]
        annotations["networking.gke.io/managed-certificates"] = ",".join(names)
    if public.tls == "preSharedCert" and public.certificate is not None:
        annotations["ingress.gcp.kubernetes.io/pre-shared-cert"] = public.certificate
    if frontendconfig.wanted(name, public, observed):
        annotations["networking.gke.io/v1beta1.FrontendConfig"] = name
    return annotations


def _rule(host: str, service: str) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"name": "http"}}}
    return {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
