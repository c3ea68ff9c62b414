"""NetworkPolicy: requests come in from anywhere, and next to nothing goes out of a pod that decodes strangers' files.

The kubelet's probes need no rule: a node always reaches its own pods.
"""

from typing import Any

from whisper_operator.config import Settings
from whisper_operator.kube.kinds import NETWORK_POLICY
from whisper_operator.manifests.deployment import HTTP_PORT, OPS_PORT
from whisper_operator.manifests.manifest import Manifest, manifest, selector
from whisper_operator.spec.endpoint import WhisperEndpoint

HEALTH_CHECKS = ("130.211.0.0/22", "35.191.0.0/16")
"""Where GKE's load balancers look at the pods from."""

METADATA = (("169.254.169.254/32", 80), ("169.254.169.252/32", 988))
"""GKE's metadata server, which turns a ServiceAccount into one of the project's: its address, and where that is led to."""


def of(endpoint: WhisperEndpoint, settings: Settings) -> list[Manifest]:
    spec = {
        "podSelector": {"matchLabels": selector(endpoint.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [_port(HTTP_PORT)]}, *_operations(endpoint, settings)],
        "egress": _out(endpoint),
    }
    return [manifest(NETWORK_POLICY, endpoint, spec)]


def _operations(endpoint: WhisperEndpoint, settings: Settings) -> list[dict[str, Any]]:
    sources: list[dict[str, Any]] = []
    if endpoint.public is not None and endpoint.public.on_gke:
        sources += [{"ipBlock": {"cidr": block}} for block in HEALTH_CHECKS]
    sources += [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        for namespace in settings.scrapers
    ]
    # A rule without a source would let in everybody.
    return [{"from": sources, "ports": [_port(OPS_PORT)]}] if sources else []


def _out(endpoint: WhisperEndpoint) -> list[dict[str, Any]]:
    # To anywhere: the cluster's DNS may be on the node, or Google's.
    rules: list[dict[str, Any]] = [{"ports": [_port(53, "UDP"), _port(53)]}]
    if endpoint.model_volume is not None and endpoint.model_volume.size is not None:
        rules.append({"ports": [_port(443)]})  # the download of the weights
    if endpoint.scheduling.service_account_name is not None:
        rules += [{"to": [{"ipBlock": {"cidr": block}}], "ports": [_port(port)]} for block, port in METADATA]
    return rules


def _port(number: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": number, "protocol": protocol}
