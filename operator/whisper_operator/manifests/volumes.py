"""The volumes of a pod, and where its containers have them."""

from typing import Any

from whisper_operator.manifests.environment import KEYS, MODELS, SCRATCH
from whisper_operator.spec.endpoint import WhisperEndpoint


def of(endpoint: WhisperEndpoint) -> list[dict[str, Any]]:
    """As a pod's `volumes`."""
    found: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": endpoint.resources.scratch}}]
    weights = endpoint.model_volume
    if weights is not None and weights.claim is not None:
        # Read-only as a whole, so that replicas on many nodes can share a disk.
        claim = {"claimName": weights.claim, "readOnly": True}
        found.append({"name": "models", "persistentVolumeClaim": claim})
    elif weights is not None:
        found.append({"name": "models", "emptyDir": {"sizeLimit": weights.size}})
    if endpoint.keys_secret is not None:
        found.append({"name": "api-keys", "secret": {"secretName": endpoint.keys_secret}})
    return found


def mounts(endpoint: WhisperEndpoint) -> list[dict[str, Any]]:
    """As the server's `volumeMounts`: it writes nowhere but to /tmp."""
    found: list[dict[str, Any]] = [{"name": "tmp", "mountPath": SCRATCH}]
    if endpoint.model_volume is not None:
        found.append({"name": "models", "mountPath": MODELS, "readOnly": True})
    if endpoint.keys_secret is not None:
        found.append({"name": "api-keys", "mountPath": KEYS, "readOnly": True})
    return found


def filling() -> list[dict[str, Any]]:
    """As the `volumeMounts` of the container that downloads the weights."""
    return [{"name": "tmp", "mountPath": SCRATCH}, {"name": "models", "mountPath": MODELS}]
