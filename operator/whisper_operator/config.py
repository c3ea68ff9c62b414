"""Settings of one installation of the operator, read once at start from a YAML file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from whisper_operator import accelerators
from whisper_operator.accelerators import Accelerator
from whisper_operator.spec.egress import NAMESPACE, Egress, egress
from whisper_operator.spec.fields import Fields, without_nulls

LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(Exception):
    """The configuration file says something that makes no sense; the message names the key."""


@dataclass(frozen=True)
class Settings:
    """What the platform team decides for all endpoints."""

    server_repository: str | None = None
    server_version: str | None = None
    accelerators: Mapping[str, Accelerator] = field(
        default_factory=lambda: accelerators.of_gke(autopilot=False)
    )
    in_flight_metric: str = "whisper_requests_in_flight"
    """What the custom metrics API calls a pod's requests in flight; each adapter has names of its own."""
    scrapers: tuple[str, ...] = ("gmp-system", "gke-gmp-system", "monitoring")
    """Namespaces whose pods may read metrics: Google's managed collection, and the usual place of a Prometheus."""
    network_policy: bool = True
    """Whether endpoints that don't say have a NetworkPolicy."""
    egress: tuple[Egress, ...] = ()
    """Ways out of every endpoint's pods, beside those that it needs itself."""
    namespaces: tuple[str, ...] = ()
    """The only ones whose endpoints are looked after; empty: all."""
    max_rollouts: int = 1
    """How many endpoints at a time have pods changed for another reason than their own spec."""
    settle_seconds: int = 30
    """For how long one of them has to serve before the next: a version may come up, and fall at its first request."""
    paused: bool = False
    """Whether none has."""
    workers: int = 16
    health_port: int = 8080
    list_again_seconds: float = 600.0
    """How often to look for what the watches missed; a read of everything, and no write."""
    log_level: str = "info"
    """One of LOG_LEVELS."""
    warn_of_open_endpoints: bool = True
    """Whether an endpoint tells that anybody on the internet may use it: said by the policy, for its namespace."""
    endpoints_may_pause: bool = True
    """Whether an endpoint's annotation holds its upgrades: likewise."""

    def server_image(self, engine: str, model: str | None) -> str | None:
        """The image with the weights of `model` in it (None: of no model); None while no repository is configured."""
        if self.server_repository is None or self.server_version is None:
            return None
        tag = "-".join(part for part in (self.server_version, engine, model) if part)
        return f"{self.server_repository}:{tag}"


def load(path: Path | None) -> Settings:
    """Read the configuration file; without one, the defaults. Raises ConfigError."""
    if path is None:
        return Settings()
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    # ValueError: what is no UTF-8, or a day that is in no month. RecursionError: brackets without end.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse(raw)


def parse(raw: object) -> Settings:
    """Settings out of the file's content. Raises ConfigError."""
    if not isinstance(raw, dict):
        raise ConfigError(f"the configuration must be a mapping, not {raw!r}")
    try:
        if raw.get("namespaces", ...) in ([], None):  # to take it for all of them would be a surprise
            raise ValueError("namespaces must name at least one; leave it out to look after all")
        return _parse(Fields(without_nulls(raw), ""))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _parse(top: Fields) -> Settings:
    base = Settings()
    top.only(
        *("server", "autopilot", "accelerators", "autoscaling", "monitoring", "networkPolicy", "namespaces"),
        *("maxRollouts", "settleSeconds", "paused", "workers", "healthPort", "listAgainSeconds", "logLevel"),
    )
    server, autoscaling, monitoring, network, table = (
        top.sub(name) for name in ("server", "autoscaling", "monitoring", "networkPolicy", "accelerators")
    )
    server.only("repository", "version")
    autoscaling.only("metric")
    monitoring.only("namespaces")
    network.only("enabled", "egress")
    if server.has("repository") != server.has("version"):
        raise ValueError("server.repository and server.version go together: set both, or none")
    metric = autoscaling.text("metric") or base.in_flight_metric
    if re.search("[/%]", metric):
        raise ValueError(
            f"autoscaling.metric can't have / or % in it: {metric!r} (GKE's adapter takes | for /)"
        )
    return Settings(
        server_repository=_image_part(server, "repository"),
        server_version=_image_part(server, "version"),
        accelerators={
            **accelerators.of_gke(autopilot=top.flag("autopilot")),
            **{str(name): accelerators.accelerator(table.sub(name)) for name in table.raw},
        },
        in_flight_metric=metric,
        scrapers=_namespaces(monitoring, "namespaces", base.scrapers),
        network_policy=network.flag("enabled", default=True),
        egress=egress(network, "egress"),
        namespaces=_namespaces(top, "namespaces", base.namespaces),
        max_rollouts=top.number("maxRollouts", base.max_rollouts, least=1),
        settle_seconds=top.number("settleSeconds", base.settle_seconds, least=0),
        paused=top.flag("paused"),
        workers=top.number("workers", base.workers, least=1),
        health_port=top.number("healthPort", base.health_port, least=1, most=65535),
        list_again_seconds=top.number("listAgainSeconds", 600, least=1),
        log_level=_log_level(top),
    )


def _image_part(server: Fields, name: str) -> str | None:
    text = server.text(name)
    if text is not None and not re.fullmatch(r"[^\s:@]+(:[0-9]+/[^\s:@]+)?", text):
        raise ValueError(f"server.{name} can't be part of an image's name: {text!r}")
    return text


def _log_level(top: Fields) -> str:
    level = top.text("logLevel") or "info"
    if level not in LOG_LEVELS:
        raise ValueError(f"logLevel must be one of {', '.join(LOG_LEVELS)}, not {level!r}")
    return level


def _namespaces(raw: Fields, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    names = raw.texts(key) if raw.has(key) else default
    for name in names:
        if not re.fullmatch(NAMESPACE, name):
            where = f"{raw.path}.{key}" if raw.path else key
            raise ValueError(f"{where} must hold names of namespaces, not {name!r}")
    return tuple(dict.fromkeys(names))
