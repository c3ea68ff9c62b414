"""NetworkPolicy: requests come in from anywhere, and next to nothing goes out of a pod that decodes strangers' files.

What else runs in the pod, such as a mesh's proxy or an agent, needs ways out of its own: the installation opens them for all
endpoints, and lets single ones open more, or do without a policy.

The kubelet's probes need no rule: a node always reaches its own pods.
"""

from typing import Any

from whisper_operator.config import Settings
from whisper_operator.kube.kinds import NETWORK_POLICY
from whisper_operator.manifests.deployment import HTTP_PORT, OPS_PORT
from whisper_operator.manifests.manifest import Manifest, manifest, selector
from whisper_operator.spec.egress import Egress
from whisper_operator.spec.endpoint import WhisperEndpoint

HEALTH_CHECKS = ("130.211.0.0/22", "35.191.0.0/16")
"""Where GKE's load balancers look at the pods from."""

GCS_FUSE = "gke-gcsfuse/volumes"
"""The annotation of pods that GKE gives a sidecar, which reads a bucket of Cloud Storage as their node's identity."""

METADATA = (("169.254.169.254/32", 80), ("169.254.169.252/32", 988))
"""GKE's metadata server, which turns a ServiceAccount into one of the project's: its address, and where that is led to."""


def of(endpoint: WhisperEndpoint, settings: Settings) -> list[Manifest]:
    if not endpoint.network_policy:
        return []
    spec = {
        "podSelector": {"matchLabels": selector(endpoint.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [_port(HTTP_PORT)]}, *_operations(endpoint, settings)],
        "egress": _out(endpoint, settings),
    }
    return [manifest(NETWORK_POLICY, endpoint, spec)]


def _operations(endpoint: WhisperEndpoint, settings: Settings) -> list[dict[str, Any]]:
    sources: list[dict[str, Any]] = []
    if endpoint.public is not None and endpoint.public.on_gke:
        sources += [{"ipBlock": {"cidr": block}} for block in HEALTH_CHECKS]
    sources += [_namespace(name) for name in settings.scrapers]
    # A rule without a source would let in everybody.
    return [{"from": sources, "ports": [_port(OPS_PORT)]}] if sources else []


def _out(endpoint: WhisperEndpoint, settings: Settings) -> list[dict[str, Any]]:
    # To anywhere: the cluster's DNS may be on the node, or Google's.
    rules: list[dict[str, Any]] = [{"ports": [_port(53, "UDP"), _port(53)]}]
    weights, bucket = endpoint.model_volume, endpoint.scheduling.pod_annotations.get(GCS_FUSE) == "true"
    if bucket or (weights is not None and weights.size is not None):
        rules.append({"ports": [_port(443)]})  # the weights, or the bucket they are in
    if bucket or endpoint.scheduling.service_account_name is not None:
        rules += [{"to": [{"ipBlock": {"cidr": block}}], "ports": [_port(port)]} for block, port in METADATA]
    return rules + [_rule(way) for way in (*settings.egress, *endpoint.egress)]


def _rule(way: Egress) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if way.cidr is not None:
        rule["to"] = [{"ipBlock": {"cidr": way.cidr}}]
    if way.namespace is not None:
        rule["to"] = [_namespace(way.namespace)]
    if way.ports:
        rule["ports"] = [_port(each.first, each.protocol, each.last) for each in way.ports]
    return rule


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _port(number: int, protocol: str = "TCP", last: int | None = None) -> dict[str, Any]:
    return {"port": number, "protocol": protocol, **({} if last is None else {"endPort": last})}
