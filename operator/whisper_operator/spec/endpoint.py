"""A WhisperEndpoint as Python: the resource's dict parsed into a frozen record, with everything absent filled in.

The API server has checked a resource against the CRD already; what is checked here are types, for what `render` reads, and
what only the installation knows. Whatever can't work becomes a SpecError, which says what to write instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_operator.accelerators import Accelerator
from whisper_operator.config import Settings
from whisper_operator.spec.egress import Egress, egress
from whisper_operator.spec.exposure import Public, public
from whisper_operator.spec.fields import Fields, without_nulls
from whisper_operator.spec.resources import Limits, Resources, limits, resources
from whisper_operator.spec.weights import ModelVolume, copy_bytes, volume

CANONICAL_MODELS = {"large": "large-v3", "large-v3-turbo": "turbo"}
"""openai-whisper's second names of the same weights."""


IN_FLIGHT = 8
"""Requests in flight per replica that autoscaling aims at, where the queue is long enough to show more."""


class SpecError(Exception):
    """The spec can't be carried out. Nothing is planned, what runs is kept, and Ready=False says why."""

    def __init__(self, reason: str, message: str, *, waits_for_room: bool = False) -> None:
        """`waits_for_room`: others have what it asks for, and nothing is wrong with it otherwise."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.waits_for_room = waits_for_room


@dataclass(frozen=True)
class Gpu:
    """The GPU of each replica: its type by name, how this installation's nodes offer it, and whether on spot nodes."""

    type: str
    offered: Accelerator
    spot: bool


@dataclass(frozen=True)
class Defaults:
    """For requests that don't say."""

    language: str | None = None
    task: str | None = None
    prompt: str | None = None
    vad: bool = False


@dataclass(frozen=True)
class Autoscaling:
    """Between how many replicas, and by what."""

    minimum: int
    maximum: int
    in_flight: int | None
    """Requests in flight per replica to aim at; None goes by the use of CPUs."""


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
    model_volume: ModelVolume | None
    """None: the weights are in the image."""
    engine: str
    compute_type: str | None
    image: str
    pull_secrets: tuple[str, ...]
    gpu: Gpu | None
    """None: it runs on CPUs."""
    replicas: int | None
    """How many pods are wanted, 0 when suspended; None leaves it to the autoscaler."""
    autoscaling: Autoscaling | None
    """None when suspended, too."""
    suspend: bool
    resources: Resources
    defaults: Defaults
    limits: Limits
    keys_secret: str | None
    """The Secret with the API keys; None asks for no key."""
    cors_origins: tuple[str, ...] | None
    """None allows every origin; () allows none."""
    public: Public | None
    """None: it is reached inside the cluster only."""
    scheduling: Scheduling
    rollout: str
    """"RollingUpdate", "RollingRecreate" or "Recreate"."""
    network_policy: bool
    """Whether the pods have one of the operator's."""
    egress: tuple[Egress, ...]
    """Ways out of the pods that the endpoint asks for, beside the installation's."""
    watched: tuple[str, ...]
    """The only namespaces that the installation sees; empty: it sees all."""
    warn_of_open: bool = True
    """Whether it is to tell that anybody on the internet may use it, if that is so."""

    @property
    def is_open(self) -> bool:
        """Whether anybody on the internet may use it, and so run up a bill."""
        return self.public is not None and self.public.on_internet and self.keys_secret is None


def parse(resource: Mapping[str, Any], settings: Settings) -> WhisperEndpoint:
    """The endpoint that a resource describes on this installation. Raises SpecError."""
    try:
        return _parse(without_nulls(resource), settings)
    except (TypeError, ValueError) as error:
        raise SpecError("InvalidSpec", str(error)) from error


def _parse(resource: Mapping[str, Any], settings: Settings) -> WhisperEndpoint:
    metadata = Fields(resource, "").sub("metadata")
    spec = Fields(resource, "").sub("spec")
    model = spec.text("model") or "large-v3"
    model = CANONICAL_MODELS.get(model, model)
    engine = spec.text("engine") or "openai-whisper"
    bounds = limits(spec.sub("limits"))
    suspend = spec.flag("suspend")
    model_volume = volume(spec.sub("modelVolume"), model) if spec.has("modelVolume") else None
    gpu = _gpu(spec, settings)
    autoscaling = None if suspend else _autoscaling(spec, gpu, bounds)
    return WhisperEndpoint(
        namespace=metadata.text("namespace") or "default",
        name=metadata.text("name", required=True) or "",
        uid=metadata.text("uid"),
        model=model,
        model_volume=model_volume,
        engine=engine,
        compute_type=spec.text("computeType"),
        image=spec.text("image") or _image(settings, engine, None if model_volume else model),
        pull_secrets=tuple(item.text("name", required=True) or "" for item in spec.items("imagePullSecrets")),
        gpu=gpu,
        replicas=0 if suspend else None if autoscaling else spec.number("replicas", 1),
        autoscaling=autoscaling,
        suspend=suspend,
        resources=resources(spec.sub("resources"), bounds, model_volume, copy_bytes(model, engine)),
        defaults=_defaults(spec.sub("defaults")),
        limits=bounds,
        keys_secret=spec.sub("auth").text("secretName", required=True) if spec.has("auth") else None,
        cors_origins=spec.sub("cors").texts("allowedOrigins") if spec.has("cors") else None,
        public=public(spec),
        scheduling=_scheduling(spec.sub("scheduling")),
        rollout=spec.text("rollout") or "RollingUpdate",
        network_policy=spec.sub("networkPolicy").flag("enabled", default=settings.network_policy),
        egress=egress(spec.sub("networkPolicy"), "egress"),
        watched=settings.namespaces,
        warn_of_open=settings.warn_of_open_endpoints,
    )


def _image(settings: Settings, engine: str, model: str | None) -> str:
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
    spot = accelerator.flag("spot")
    if spot and offered.spot is None:
        raise SpecError(
            "SpotNotOffered",
            f"spec.accelerator.spot: this installation has no spot nodes with {name}: leave spot out, or ask the platform "
            f"team to add accelerators.{name}.spot to the operator's configuration.",
        )
    return Gpu(name, offered, spot)


def _autoscaling(spec: Fields, gpu: Gpu | None, bounds: Limits) -> Autoscaling | None:
    if not spec.has("autoscaling"):
        return None
    raw = spec.sub("autoscaling")
    minimum = raw.number("min", 1)
    # A GPU is kept busy by requests in flight, whatever the CPU does meanwhile; on CPUs their use says it all.
    usual = max(1, min(IN_FLIGHT, bounds.max_queue // 2)) if gpu else 0
    target = raw.number("targetInFlight", usual) or None
    return Autoscaling(minimum, raw.number("max", minimum), target)


def _defaults(raw: Fields) -> Defaults:
    return Defaults(raw.text("language"), raw.text("task"), raw.text("prompt"), raw.flag("vad"))


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
