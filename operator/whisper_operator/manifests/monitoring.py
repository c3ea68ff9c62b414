"""PodMonitoring and PodMonitor: metrics for Google's managed Prometheus, and for a Prometheus operator."""

from typing import Any

from whisper_operator.kube.kinds import POD_MONITOR, POD_MONITORING
from whisper_operator.manifests.manifest import Manifest, manifest, selector
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import WhisperEndpoint

INTERVAL = "15s"
"""No longer than an autoscaler takes between two looks."""


def of(endpoint: WhisperEndpoint, observed: Observed) -> list[Manifest]:
    port: dict[str, Any] = {"port": "ops", "path": "/metrics", "interval": INTERVAL}
    pods = {"matchLabels": selector(endpoint.name)}
    specs = {
        POD_MONITORING: {"selector": pods, "endpoints": [port]},
        POD_MONITOR: {"selector": pods, "podMetricsEndpoints": [port]},
    }
    return [manifest(kind, endpoint, spec) for kind, spec in specs.items() if kind in observed.optional]
