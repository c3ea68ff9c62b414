"""Service: the endpoint's address inside the cluster, and the load balancer's way to the pods (NEG)."""

import json

from whisper_operator.kube.kinds import SERVICE
from whisper_operator.manifests.deployment import HTTP_PORT
from whisper_operator.manifests.manifest import Manifest, manifest, selector
from whisper_operator.spec.endpoint import WhisperEndpoint


def of(endpoint: WhisperEndpoint) -> list[Manifest]:
    spec = {
        "type": "ClusterIP",
        "selector": selector(endpoint.name),
        "ports": [{"name": "http", "port": HTTP_PORT, "protocol": "TCP", "targetPort": "http"}],
    }
    annotations = {}
    if endpoint.public is not None and endpoint.public.on_gke:
        # GKE reads both from the Service only, never from the Ingress.
        annotations = {
            "cloud.google.com/neg": json.dumps({"ingress": True}),
            "cloud.google.com/backend-config": json.dumps({"default": endpoint.name}),
        }
    return [manifest(SERVICE, endpoint, spec, annotations=annotations)]
