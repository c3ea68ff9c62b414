"""HorizontalPodAutoscaler: as many replicas as the requests in flight, or the CPUs in use, ask for."""

from typing import Any

from whisper_operator.config import Settings
from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT
from whisper_operator.manifests.manifest import Manifest, manifest
from whisper_operator.spec.endpoint import Autoscaling, WhisperEndpoint

CPU_PERCENT = 80
"""Of what is requested, in use on average."""

PATIENCE_SECONDS = 600
"""A GPU node takes as long to come as that: one that was given away too soon would be missed."""


def of(endpoint: WhisperEndpoint, settings: Settings) -> list[Manifest]:
    scaling = endpoint.autoscaling
    if scaling is None:
        return []
    spec = {
        "scaleTargetRef": {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.name,
            "name": endpoint.name,
        },
        "minReplicas": scaling.minimum,
        "maxReplicas": scaling.maximum,
        "metrics": [_metric(scaling, settings.in_flight_metric)],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": PATIENCE_SECONDS,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
            },
        },
    }
    return [manifest(AUTOSCALER, endpoint, spec)]


def _metric(scaling: Autoscaling, in_flight: str) -> dict[str, Any]:
    if scaling.in_flight is None:
        target: dict[str, Any] = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
        return {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    target = {"type": "AverageValue", "averageValue": str(scaling.in_flight)}
    return {"type": "Pods", "pods": {"metric": {"name": in_flight}, "target": target}}
