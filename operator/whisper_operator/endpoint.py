"""A WhisperEndpoint as Python: the resource's dict parsed into a frozen record, with everything absent filled in.

The API server has checked a resource against the CRD already; what is checked here are types, for what `render` reads, and
what only the installation knows. Whatever can't work becomes a SpecError, which says what to write instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_operator.config import Accelerator, Settings
from whisper_operator.fields import Fields
from whisper_operator.unimplemented import unimplemented_fields

GIB = 1 << 30
CANONICAL_MODELS = {"large": "large-v3", "large-v3-turbo": "turbo"}
"""openai-whisper's second names of the same weights."""


class SpecError(Exception):
    """The spec can't be carried out. Nothing is planned, what runs is kept, and Ready=False says why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Gpu:
    """The GPU of each replica: its type by name, how this installation's nodes offer it, and whether on spot nodes."""

    type: str
    offered: Accelerator
    spot: bool


@dataclass(frozen=True)
class Limits:
    """What the server takes; see the CRD for each."""

    max_upload_bytes: int = 25 << 20
    max_audio_seconds: int = 7200
    max_queue: int = 32
    request_timeout_seconds: int = 600


@dataclass(frozen=True)
class Defaults:
    """For requests that don't say."""

    language: str | None = None
    task: str | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Resources:
    """Kubernetes quantities by resource name, without the GPU."""

    requests: Mapping[str, str]
    limits: Mapping[str, str]


@dataclass(frozen=True)
class Public:
    """The side that faces the internet: GKE's external load balancer."""

    hosts: tuple[str, ...]
    static_ip_name: str | None
    tls: str
    """"managed" or "none"."""
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Scheduling:
    """Where pods run, and what is added to them."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    topology_spread: tuple[Mapping[str, Any], ...] = ()
    priority_class_name: str | None = None
    service_account_name: str | None = None
    env: tuple[Mapping[str, str], ...] = ()
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    pod_annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WhisperEndpoint:
    """All that the children are made from."""

    namespace: str
    name: str
    uid: str | None
    """None for a resource that is only in a file."""
    model: str
    engine: str
    image: str
    pull_secrets: tuple[str, ...]
    gpu: Gpu | None
    """None: it runs on CPUs."""
    replicas: int
    """How many pods are wanted; 0 when suspended."""
    suspend: bool
    resources: Resources
    defaults: Defaults
    limits: Limits
    cors_origins: tuple[str, ...] | None
    """None allows every origin; () allows none."""
    public: Public | None
    """None: it is reached inside the cluster only."""
    scheduling: Scheduling
    rollout: str
    """"RollingUpdate" or "Recreate"."""


def parse(resource: Mapping[str, Any], settings: Settings) -> WhisperEndpoint:
    """The endpoint that a resource describes on this installation. Raises SpecError."""
    try:
        return _parse(resource, settings)
    except (TypeError, ValueError) as error:
        raise SpecError("InvalidSpec", str(error)) from error


def _parse(resource: Mapping[str, Any], settings: Settings) -> WhisperEndpoint:
    metadata = Fields(resource, "").sub("metadata")
    spec = Fields(resource, "").sub("spec")
    later = unimplemented_fields(spec)
    if later:
        raise SpecError(
            "NotImplemented",
            f"This version does not implement {', '.join(later)} yet: remove it, or wait for a version that does. "
            "Nothing was changed.",
        )
    model = spec.text("model") or "large-v3"
    model = CANONICAL_MODELS.get(model, model)
    engine = spec.text("engine") or "openai-whisper"
    limits = _limits(spec.sub("limits"))
    suspend = spec.flag("suspend")
    return WhisperEndpoint(
        namespace=metadata.text("namespace") or "default",
        name=metadata.text("name", required=True) or "",
        uid=metadata.text("uid"),
        model=model,
        engine=engine,
        image=spec.text("image") or _image(settings, engine, model),
        pull_secrets=tuple(item.text("name", required=True) or "" for item in spec.items("imagePullSecrets")),
        gpu=_gpu(spec, settings),
        replicas=0 if suspend else spec.number("replicas", 1),
        suspend=suspend,
        resources=_resources(spec.sub("resources"), limits),
        defaults=_defaults(spec.sub("defaults")),
        limits=limits,
        cors_origins=spec.sub("cors").texts("allowedOrigins") if spec.has("cors") else None,
        public=_public(spec),
        scheduling=_scheduling(spec.sub("scheduling")),
        rollout=spec.text("rollout") or "RollingUpdate",
    )


def _image(settings: Settings, engine: str, model: str) -> str:
    image = settings.server_image(engine, model)
    if image is None:
        raise SpecError(
            "ImageNotConfigured",
            "No server image is configured: build and push one with `make images`, then set server.repository and "
            "server.version in the operator's configuration, or set spec.image.",
        )
    return image


def _gpu(spec: Fields, settings: Settings) -> Gpu | None:
    if spec.text("device") == "cpu":
        return None
    accelerator = spec.sub("accelerator")
    name = accelerator.text("type") or "nvidia-tesla-t4"
    offered = settings.accelerators.get(name)
    if offered is None:
        known = ", ".join(sorted(settings.accelerators))
        raise SpecError(
            "UnknownAccelerator",
            f"spec.accelerator.type {name!r} is not in this installation's table: use one of {known}, "
            "or ask the platform team to add it.",
        )
    return Gpu(name, offered, spot=accelerator.flag("spot"))


def _limits(raw: Fields) -> Limits:
    base = Limits()
    return Limits(
        max_upload_bytes=raw.number("maxUploadBytes", base.max_upload_bytes),
        max_audio_seconds=raw.number("maxAudioSeconds", base.max_audio_seconds),
        max_queue=raw.number("maxQueue", base.max_queue),
        request_timeout_seconds=raw.number("requestTimeoutSeconds", base.request_timeout_seconds),
    )


def _defaults(raw: Fields) -> Defaults:
    return Defaults(raw.text("language"), raw.text("task"), raw.text("prompt"))


def _resources(raw: Fields, limits: Limits) -> Resources:
    """Requests; and limits equal to them, but for the CPU, which needs none: idle cycles are nobody's loss."""
    names = ("cpu", "memory", "ephemeral-storage")
    given = {name: raw.sub("requests").quantity(name) for name in names}
    capped = {name: raw.sub("limits").quantity(name) for name in names}
    # Every request of a full queue may lie in /tmp as an upload; 1 GiB more is for caches and logs.
    uploads = limits.max_upload_bytes * (limits.max_queue + 1)
    base = {"cpu": "4", "memory": "24Gi", "ephemeral-storage": f"{-(-(uploads + GIB) // GIB)}Gi"}
    requests = {name: given[name] or capped[name] or base[name] for name in names}
    uncapped = {name: None if name == "cpu" else requests[name] for name in names}
    wanted = {name: capped[name] or uncapped[name] for name in names}
    return Resources(requests, {name: value for name, value in wanted.items() if value is not None})


def _public(spec: Fields) -> Public | None:
    host = spec.text("host")
    if host is None:
        return None
    ingress = spec.sub("ingress")
    return Public(
        hosts=(host, *spec.texts("additionalHosts")),
        static_ip_name=spec.text("staticIPName"),
        tls=ingress.sub("tls").text("mode") or "managed",
        annotations=ingress.mapping("annotations"),
    )


def _scheduling(raw: Fields) -> Scheduling:
    return Scheduling(
        node_selector=raw.mapping("nodeSelector"),
        tolerations=tuple(item.raw for item in raw.items("tolerations")),
        topology_spread=tuple(_with(item, "topologyKey") for item in raw.items("topologySpread")),
        priority_class_name=raw.text("priorityClassName"),
        service_account_name=raw.text("serviceAccountName"),
        env=tuple(_with(item, "name", "value") for item in raw.items("env")),
        pod_labels=raw.mapping("podLabels"),
        pod_annotations=raw.mapping("podAnnotations"),
    )


def _with(item: Fields, *names: str) -> Mapping[str, Any]:
    """The item as it is, once it is sure to have these texts."""
    for name in names:
        item.text(name, required=True)
    return item.raw
