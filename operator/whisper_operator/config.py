"""Settings of one installation of the operator, read once at start from a YAML file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

GKE_ACCELERATORS = (
    "nvidia-tesla-t4",
    "nvidia-l4",
    "nvidia-tesla-a100",
    "nvidia-a100-80gb",
    "nvidia-h100-80gb",
)
"""GPU types by GKE's own names: https://cloud.google.com/kubernetes-engine/docs/concepts/gpus"""


class ConfigError(Exception):
    """The configuration file says something that makes no sense; the message names the key."""


@dataclass(frozen=True)
class Accelerator:
    """How pods ask for one type of GPU on the nodes of this installation."""

    node_selector: Mapping[str, str]
    resource: str = "nvidia.com/gpu"
    tolerations: tuple[Mapping[str, Any], ...] = (
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    )


@dataclass(frozen=True)
class Settings:
    """What the platform team decides for all endpoints."""

    server_repository: str | None = None
    server_version: str | None = None
    accelerators: Mapping[str, Accelerator] = field(default_factory=lambda: gke_accelerators(autopilot=False))
    in_flight_metric: str = "whisper_requests_in_flight"
    """What the custom metrics API calls a pod's requests in flight; each adapter has names of its own."""
    scrapers: tuple[str, ...] = ("gmp-system", "gke-gmp-system", "monitoring")
    """Namespaces whose pods may read metrics: Google's managed collection, and the usual place of a Prometheus."""
    namespaces: tuple[str, ...] = ()
    """The only ones whose endpoints are looked after; empty: all."""
    workers: int = 16
    health_port: int = 8080
    list_again_seconds: float = 600.0
    """How often to look for what the watches missed; a read of everything, and no write."""

    def server_image(self, engine: str, model: str | None) -> str | None:
        """The image with the weights of `model` in it (None: of no model); None while no repository is configured."""
        if self.server_repository is None or self.server_version is None:
            return None
        tag = "-".join(part for part in (self.server_version, engine, model) if part)
        return f"{self.server_repository}:{tag}"


def gke_accelerators(*, autopilot: bool) -> dict[str, Accelerator]:
    """GKE's GPU types. Autopilot makes nodes to measure, and wants the count of GPUs spelled out."""
    count = {"cloud.google.com/gke-accelerator-count": "1"} if autopilot else {}
    return {
        name: Accelerator({"cloud.google.com/gke-accelerator": name, **count}) for name in GKE_ACCELERATORS
    }


def load(path: Path | None) -> Settings:
    """Read the configuration file; without one, the defaults. Raises ConfigError."""
    if path is None:
        return Settings()
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse(raw)


def parse(raw: object) -> Settings:
    """Settings out of the file's content. Raises ConfigError."""
    top = _mapping(raw, "the configuration")
    _only(
        top,
        {
            "server",
            "autopilot",
            "accelerators",
            "autoscaling",
            "monitoring",
            "namespaces",
            "workers",
            "healthPort",
            "listAgainSeconds",
        },
        "",
    )
    server = _mapping(top.get("server", {}), "server")
    _only(server, {"repository", "version"}, "server.")
    if ("repository" in server) != ("version" in server):
        raise ConfigError("server.repository and server.version go together: set both, or none")
    accelerators = gke_accelerators(autopilot=_typed(top, "autopilot", bool, False))
    for name, entry in _mapping(top.get("accelerators", {}), "accelerators").items():
        accelerators[name] = _accelerator(entry, f"accelerators.{name}")
    base = Settings()
    autoscaling = _mapping(top.get("autoscaling", {}), "autoscaling")
    _only(autoscaling, {"metric"}, "autoscaling.")
    monitoring = _mapping(top.get("monitoring", {}), "monitoring")
    _only(monitoring, {"namespaces"}, "monitoring.")
    workers = _typed(top, "workers", int, 16)
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    if top.get("namespaces") == []:  # to take it for all of them would be a surprise
        raise ConfigError("namespaces must name at least one; leave it out to look after all")
    again = _typed(top, "listAgainSeconds", int, 600)
    if again < 1:
        raise ConfigError(f"listAgainSeconds must be at least 1, not {again}")
    return Settings(
        server_repository=_typed(server, "repository", str, None),
        server_version=_typed(server, "version", str, None),
        accelerators=accelerators,
        in_flight_metric=_typed(autoscaling, "metric", str, base.in_flight_metric),
        scrapers=_namespaces(monitoring, "namespaces", base.scrapers, "monitoring."),
        namespaces=_namespaces(top, "namespaces", base.namespaces),
        workers=workers,
        health_port=_typed(top, "healthPort", int, 8080),
        list_again_seconds=again,
    )


def _accelerator(raw: object, where: str) -> Accelerator:
    entry = _mapping(raw, where)
    _only(entry, {"nodeSelector", "resource", "tolerations"}, f"{where}.")
    base = Accelerator(_mapping(entry.get("nodeSelector", {}), f"{where}.nodeSelector"))
    for label, value in base.node_selector.items():
        if not isinstance(label, str) or not isinstance(value, str):
            raise ConfigError(f"{where}.nodeSelector.{label} must be a string: put quotes around {value!r}")
    tolerations = _typed(entry, "tolerations", list, list(base.tolerations))
    return Accelerator(
        node_selector=base.node_selector,
        resource=_typed(entry, "resource", str, base.resource),
        tolerations=tuple(_mapping(item, f"{where}.tolerations[]") for item in tolerations),
    )


def _namespaces(
    raw: Mapping[str, Any], key: str, default: tuple[str, ...], prefix: str = ""
) -> tuple[str, ...]:
    names = _typed(raw, key, list, list(default))
    for name in names:
        if not isinstance(name, str) or not re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", name):
            raise ConfigError(f"{prefix}{key} must hold names of namespaces, not {name!r}")
    return tuple(dict.fromkeys(names))


def _mapping(raw: object, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} must be a mapping, not {raw!r}")
    return raw


def _only(raw: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for key in raw:
        if key not in known:
            raise ConfigError(
                f"{prefix}{key} is not a setting; the settings here are {', '.join(sorted(known))}"
            )


def _typed(raw: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = raw.get(key, default)
    if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ConfigError(f"{key} must be of type {kind.__name__}, not {value!r}")
    return value
