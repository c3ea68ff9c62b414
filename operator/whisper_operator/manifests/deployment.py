"""Deployment: the pods that transcribe."""

from typing import Any

from whisper_operator.kube.kinds import DEPLOYMENT
from whisper_operator.manifests import environment, volumes
from whisper_operator.manifests.manifest import Manifest, labels, manifest, selector
from whisper_operator.observed.children import Child, Observed
from whisper_operator.spec.endpoint import WhisperEndpoint

HTTP_PORT = 8000
OPS_PORT = 9090
"""/healthz, /readyz and /metrics: in neither Service nor Ingress."""

USER = 65532
"""Non-root, without a name in the image."""

PRE_STOP_SECONDS = 30
"""The load balancer needs that long to stop sending; the pod serves on meanwhile."""

NODE_AND_PULL_SECONDS = 1800
"""A cold GPU node takes 5 to 15 minutes, the pull of the image some more."""

DOWNLOADING_SECONDS = 1800
"""What the download of the weights is given, where they are neither in the image nor on a claim: 3 GB at 14 Mbit/s."""

LAST_WORDS = "FallbackToLogsOnError"
"""The end of the log of a container that failed stands in the pod's status then, which the operator may read, and passes on."""

LOADING_SECONDS = 1800
"""The longest that loading a model may take before the container is started again."""


def of(endpoint: WhisperEndpoint, observed: Observed) -> list[Manifest]:
    live = observed.only(DEPLOYMENT, endpoint.name)
    replicas = _replicas(endpoint, live)
    spec: dict[str, Any] = {
        **({} if replicas is None else {"replicas": replicas}),
        "paused": False,  # or `kubectl rollout pause` would hold up every change, and nobody would know why
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": progress_deadline(endpoint),
        "selector": {"matchLabels": selector(endpoint.name)},
        "strategy": _strategy(endpoint),
        "template": {
            "metadata": _pod_metadata(endpoint),
            "spec": _pod(endpoint),
        },
    }
    # The live number may change between our look and our own write: then it is time for another look.
    follows = live is not None and (bool(endpoint.autoscaling) or _turns_to_recreate(endpoint, live))
    version = live.version if live and follows else None
    return [manifest(DEPLOYMENT, endpoint, spec, expected_resource_version=version)]


def progress_deadline(endpoint: WhisperEndpoint) -> int:
    """Seconds until a rollout without a new ready pod counts as stuck: all that a pod goes through one after the other."""
    download = DOWNLOADING_SECONDS if _downloads(endpoint) else 0
    return NODE_AND_PULL_SECONDS + download + LOADING_SECONDS


def _replicas(endpoint: WhisperEndpoint, live: Child | None) -> int | None:
    """How many to declare; None leaves the number to whoever else has set it.

    A field that its only owner no longer declares falls back to its default, which is 1 here. So the live number is declared
    until the autoscaler has written one of its own. At 0 it would never start.
    """
    if endpoint.autoscaling is None:
        # The strategy first, the number next: where pods of two templates run, the Deployment's controller would try to scale
        # both by a rule that Recreate does not have, do nothing, and try again for ever (Kubernetes, deployment/sync.go, scale).
        turns = live and _turns_to_recreate(endpoint, live)
        return live.spec.get("replicas", 1) if live and turns else endpoint.replicas
    number = live.spec.get("replicas", 1) if live else 0
    if number == 0:
        return endpoint.autoscaling.minimum
    return None if live and live.scaled_by_others else number


def _strategy(endpoint: WhisperEndpoint) -> dict[str, Any]:
    if endpoint.rollout == "Recreate":
        return {"type": "Recreate"}
    surge, unavailable = (0, 1) if endpoint.rollout == "RollingRecreate" else (1, 0)
    # Spelled out, so that a switch to Recreate takes them away again.
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }


def _turns_to_recreate(endpoint: WhisperEndpoint, live: Child) -> bool:
    """Whether the Deployment's controller has yet to take up that strategy. Once it has, pods of one template are left."""
    if endpoint.rollout != "Recreate":
        return False
    is_told = (live.spec.get("strategy") or {}).get("type") == "Recreate"
    return not is_told or live.status.get("observedGeneration", 0) < live.generation


def _pod_metadata(endpoint: WhisperEndpoint) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {**endpoint.scheduling.pod_labels, **labels(endpoint)}}
    if endpoint.scheduling.pod_annotations:
        metadata["annotations"] = dict(endpoint.scheduling.pod_annotations)
    return metadata


def _pod(endpoint: WhisperEndpoint) -> dict[str, Any]:
    """A pod that passes Pod Security "restricted"."""
    scheduling = endpoint.scheduling
    optional = {
        "initContainers": _downloads(endpoint),
        "imagePullSecrets": [{"name": name} for name in endpoint.pull_secrets],
        "nodeSelector": _node_selector(endpoint),
        "tolerations": _tolerations(endpoint),
        "topologySpreadConstraints": _spread(endpoint),
        "priorityClassName": scheduling.priority_class_name,
    }
    return {
        # Spelled out: Kubernetes keeps a second field of the same meaning, which would stay if this one were taken back.
        "serviceAccountName": scheduling.service_account_name or "default",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + endpoint.limits.request_timeout_seconds + 15,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(endpoint)],
        "volumes": volumes.of(endpoint),
        **{name: value for name, value in optional.items() if value},
    }


def _container(endpoint: WhisperEndpoint) -> dict[str, Any]:
    gpu = {endpoint.gpu.offered.resource: "1"} if endpoint.gpu else {}
    return {
        "name": "server",
        "terminationMessagePolicy": LAST_WORDS,
        "image": endpoint.image,
        "env": _environment(endpoint),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "ops", "containerPort": OPS_PORT, "protocol": "TCP"},
        ],
        "resources": {
            "requests": {**endpoint.resources.requests, **gpu},
            "limits": {**endpoint.resources.limits, **gpu},
        },
        "securityContext": _confined(),
        "startupProbe": _probe("/readyz", period=5, failures=LOADING_SECONDS // 5),
        "readinessProbe": _probe("/readyz", period=5, failures=2),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(PRE_STOP_SECONDS)]}}},
        "volumeMounts": volumes.mounts(endpoint),
    }


def _downloads(endpoint: WhisperEndpoint) -> list[dict[str, Any]]:
    """Fetches the weights into an empty volume, once for each pod: a server that starts again finds them there."""
    if endpoint.model_volume is None or endpoint.model_volume.size is None:
        return []
    download = {
        "name": "download",
        "terminationMessagePolicy": LAST_WORDS,
        "image": endpoint.image,
        "args": ["--preload", endpoint.model],
        "env": _environment(endpoint),
        # No more than what the pod has anyway, since the two never run at once.
        "resources": {
            "requests": dict(endpoint.resources.requests),
            "limits": dict(endpoint.resources.limits),
        },
        "securityContext": _confined(),
        "volumeMounts": volumes.filling(),
    }
    return [download]


def _environment(endpoint: WhisperEndpoint) -> list[dict[str, str]]:
    return environment.of(endpoint, http_port=HTTP_PORT, ops_port=OPS_PORT)


def _confined() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "ops"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _node_selector(endpoint: WhisperEndpoint) -> dict[str, str]:
    selected = dict(endpoint.scheduling.node_selector)
    if endpoint.gpu:
        selected |= endpoint.gpu.offered.node_selector
        if endpoint.gpu.spot and endpoint.gpu.offered.spot:
            selected |= endpoint.gpu.offered.spot.node_selector
    return selected


def _tolerations(endpoint: WhisperEndpoint) -> list[dict[str, Any]]:
    wanted = [dict(toleration) for toleration in endpoint.scheduling.tolerations]
    if endpoint.gpu:
        wanted += [dict(toleration) for toleration in endpoint.gpu.offered.tolerations]
        if endpoint.gpu.spot and endpoint.gpu.offered.spot:
            wanted += [dict(toleration) for toleration in endpoint.gpu.offered.spot.tolerations]
    return wanted


def _spread(endpoint: WhisperEndpoint) -> list[dict[str, Any]]:
    return [
        {
            "topologyKey": constraint["topologyKey"],
            "maxSkew": constraint.get("maxSkew", 1),
            "whenUnsatisfiable": constraint.get("whenUnsatisfiable", "ScheduleAnyway"),
            "labelSelector": {"matchLabels": selector(endpoint.name)},
        }
        for constraint in endpoint.scheduling.topology_spread
    ]
