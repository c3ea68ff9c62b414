"""PodDisruptionBudget: while nodes are drained, one replica at a time goes."""

from whisper_operator.kube.kinds import DISRUPTION_BUDGET
from whisper_operator.manifests.manifest import Manifest, manifest, selector
from whisper_operator.spec.endpoint import WhisperEndpoint


def of(endpoint: WhisperEndpoint) -> list[Manifest]:
    most = endpoint.autoscaling.maximum if endpoint.autoscaling else endpoint.replicas or 0
    if most < 2:
        return []  # a budget for a single replica would say nothing, or hold up drains for ever
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(endpoint.name)},
        # A pod that does not work anyway is no reason to keep a node.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return [manifest(DISRUPTION_BUDGET, endpoint, spec)]
