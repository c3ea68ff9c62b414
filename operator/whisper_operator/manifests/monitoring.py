"""PodMonitoring and PodMonitor: metrics for Google's managed Prometheus, and for a Prometheus operator."""

import re
from typing import Any

from whisper_operator.kube.kinds import ENDPOINT_LABEL, POD_MONITOR, POD_MONITORING
from whisper_operator.manifests.manifest import Manifest, manifest, selector
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import WhisperEndpoint

INTERVAL = "15s"
"""No longer than an autoscaler takes between two looks."""

NAME = "whisper_endpoint"
"""The label by which samples tell whose they are. `endpoint` has another meaning in both: a port, and a route of the server."""
_DISCOVERED = "__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", ENDPOINT_LABEL)


def of(endpoint: WhisperEndpoint, observed: Observed) -> list[Manifest]:
    port: dict[str, Any] = {"port": "ops", "path": "/metrics", "interval": INTERVAL}
    pods = {"matchLabels": selector(endpoint.name)}
    from_pod = {"fromPod": [{"from": ENDPOINT_LABEL, "to": NAME}]}
    named = [{"action": "replace", "sourceLabels": [_DISCOVERED], "targetLabel": NAME}]
    specs = {
        POD_MONITORING: {"selector": pods, "endpoints": [port], "targetLabels": from_pod},
        POD_MONITOR: {"selector": pods, "podMetricsEndpoints": [port | {"relabelings": named}]},
    }
    return [manifest(kind, endpoint, spec) for kind, spec in specs.items() if kind in observed.optional]
