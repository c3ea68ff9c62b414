"""BackendConfig: how GKE's load balancer treats the Service. Without one, it cuts every request off after 30 s."""

from typing import Any

from whisper_operator.kube.kinds import BACKEND_CONFIG
from whisper_operator.manifests.deployment import OPS_PORT
from whisper_operator.manifests.manifest import Manifest, manifest
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import WhisperEndpoint
from whisper_operator.spec.exposure import EXTERNAL

UPLOAD_AND_QUEUE_SECONDS = 60
"""What a request may take beside its own timeout: the upload, and waiting its turn."""


def of(endpoint: WhisperEndpoint, observed: Observed) -> list[Manifest]:
    public = endpoint.public
    if public is None or not public.on_gke:
        return []
    timeout = endpoint.limits.request_timeout_seconds
    spec: dict[str, Any] = {
        "timeoutSec": timeout + UPLOAD_AND_QUEUE_SECONDS,
        "connectionDraining": {"drainingTimeoutSec": timeout},
        # The operations port, so that a pod busy with transcriptions is not taken for a dead one.
        "healthCheck": {
            "type": "HTTP",
            "requestPath": "/readyz",
            "port": OPS_PORT,
            "checkIntervalSec": 10,
            "timeoutSec": 5,
            "healthyThreshold": 1,
            "unhealthyThreshold": 3,
        },
    }
    live = observed.only(BACKEND_CONFIG, endpoint.name)
    attached = live is not None and live.owns("spec", "securityPolicy", "name")
    # GKE takes a missing name for "leave what is attached", and an empty one for "take it off".
    if public.security_policy is not None or (attached and public.ingress_class == EXTERNAL):
        spec["securityPolicy"] = {"name": public.security_policy or ""}
    return [manifest(BACKEND_CONFIG, endpoint, spec)]
