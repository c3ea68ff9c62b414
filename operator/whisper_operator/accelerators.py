"""Types of GPU, and how pods ask for them: GKE's own, and those of the installation's table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whisper_operator.spec.fields import Fields

GKE_ACCELERATORS = (
    "nvidia-tesla-t4",
    "nvidia-l4",
    "nvidia-tesla-a100",
    "nvidia-a100-80gb",
    "nvidia-h100-80gb",
)
"""By GKE's own names: https://cloud.google.com/kubernetes-engine/docs/concepts/gpus"""

GKE_LABEL = "cloud.google.com/gke-accelerator"
"""Of GKE's nodes: their type of GPU."""

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
"""What a taint may do to pods."""

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"(?=[^/]{1,253}/)[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/"


@dataclass(frozen=True)
class Spot:
    """What pods on spot nodes ask for besides."""

    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]


GKE_SPOT = Spot(
    {"cloud.google.com/gke-spot": "true"},
    ({"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},),
)


@dataclass(frozen=True)
class Accelerator:
    """How pods ask for one type of GPU on the nodes of this installation."""

    node_selector: Mapping[str, str]
    resource: str = "nvidia.com/gpu"
    tolerations: tuple[Mapping[str, Any], ...] = (TOLERATION,)
    spot: Spot | None = None
    """None: the installation has no spot nodes with it, or does not tell them apart."""


def of_gke(*, autopilot: bool) -> dict[str, Accelerator]:
    """GKE's GPU types. Autopilot makes nodes to measure, and wants the count of GPUs spelled out."""
    count = {f"{GKE_LABEL}-count": "1"} if autopilot else {}
    return {name: Accelerator({GKE_LABEL: name, **count}, spot=GKE_SPOT) for name in GKE_ACCELERATORS}


def accelerator(raw: Fields) -> Accelerator:
    """An entry of the table. Raises ValueError for what an API server would refuse in every pod."""
    raw.only("nodeSelector", "resource", "tolerations", "spot")
    selector = _labels(raw, "nodeSelector")
    resource = raw.text("resource") or "nvidia.com/gpu"
    if not re.fullmatch(_PREFIX + _NAME, resource):
        raise ValueError(
            f"{raw.path}.resource must be the name of a device such as nvidia.com/gpu, not {resource!r}"
        )
    spot = GKE_SPOT if GKE_LABEL in selector else None
    if raw.has("spot"):
        given = raw.sub("spot")
        given.only("nodeSelector", "tolerations")
        spot = Spot(_labels(given, "nodeSelector"), _tolerations(given))
    tolerations = _tolerations(raw) if raw.has("tolerations") else (TOLERATION,)
    return Accelerator(selector, resource, tolerations, spot)


def _labels(raw: Fields, name: str) -> dict[str, str]:
    labels = raw.mapping(name)
    for key, value in labels.items():
        if not re.fullmatch(f"({_PREFIX})?{_NAME}", key) or not re.fullmatch(f"({_NAME})?", value):
            raise ValueError(f"{raw.path}.{name} holds {key}: {value}, which no label of a node can be")
    return labels


def _tolerations(raw: Fields) -> tuple[Mapping[str, Any], ...]:
    for item in raw.items("tolerations"):
        item.only("key", "operator", "value", "effect", "tolerationSeconds")
        key, value, effect = item.text("key"), item.text("value"), item.text("effect")
        operator = item.text("operator") or "Equal"
        if operator not in ("Exists", "Equal"):
            raise ValueError(f"{item.path}.operator must be Exists or Equal, not {operator!r}")
        if operator == "Equal" and not key:
            raise ValueError(f"{item.path} needs a key, or operator: Exists")
        if operator == "Exists" and value:
            raise ValueError(f"{item.path} has a value, which operator: Exists does not take")
        if key and not re.fullmatch(f"({_PREFIX})?{_NAME}", key):
            raise ValueError(f"{item.path}.key must be the key of a taint, not {key!r}")
        if value and not re.fullmatch(_NAME, value):
            raise ValueError(f"{item.path}.value must be the value of a taint, not {value!r}")
        if effect and effect not in EFFECTS:
            words = "NoSchedule, PreferNoSchedule or NoExecute"
            raise ValueError(f"{item.path}.effect must be {words}, not {effect!r}")
        item.number("tolerationSeconds", 0)
        if item.has("tolerationSeconds") and effect != "NoExecute":
            raise ValueError(f"{item.path} has tolerationSeconds, which only effect: NoExecute takes")
    return tuple(item.raw for item in raw.items("tolerations"))
