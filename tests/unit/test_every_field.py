"""Every field that the contract takes changes some child: one that is forgotten on the way would be ignored without a word."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.offline import crd_schema as offline

from tests.unit.making import Body, made

ROOT = Path(__file__).resolve().parents[2]
CRD = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())
SPEC: Body = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

Path_ = tuple[str, ...]
ITEM = "[]"

VALUES: dict[str, tuple[Any, Any]] = {
    "model": ("tiny", "base"),
    "engine": ("faster-whisper", "openai-whisper"),
    "computeType": ("float32", "float16"),
    "device": ("cpu", None),
    "accelerator.type": ("nvidia-l4", "nvidia-tesla-a100"),
    "rollout": ("Recreate", "RollingUpdate"),
    "defaults.language": ("de", "fr"),
    "defaults.task": ("translate", "transcribe"),
    "additionalHosts": (["b.example.com"], ["c.example.com"]),
    "cors.allowedOrigins": (["https://a.example.com"], []),
    "ingress.class": ("traefik", "gce-internal"),
    "ingress.annotations": ({"example.com/a": "b"}, {}),
    "ingress.tls.mode": ("none", "managed"),
    "scheduling.nodeSelector": ({"a": "b"}, {}),
    "scheduling.podLabels": ({"a": "b"}, {}),
    "scheduling.podAnnotations": ({"a": "b"}, {}),
    "scheduling.tolerations.[].operator": ("Exists", "Equal"),
    "scheduling.tolerations.[].effect": ("NoExecute", "NoSchedule"),
    "scheduling.topologySpread.[].whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "networkPolicy.enabled": (False, True),
    "networkPolicy.egress.[].cidr": ("10.0.0.0/8", "10.0.0.0/16"),
    "networkPolicy.egress.[].ports.[].protocol": ("UDP", "TCP"),
    "scheduling.env.[].name": ("A", "B"),
    "modelVolume.emptyDir.sizeLimit": ("8Gi", "9Gi"),
    "host": ("a.example.com", "b.example.com"),
}
"""Two values that say something else; of others, the type tells."""

BESIDE: dict[str, Body] = {
    "autoscaling": {"max": 30},
    "scheduling.tolerations.[]": {"key": "k"},
    "scheduling.topologySpread.[]": {"topologyKey": "zone"},
    "scheduling.env.[]": {"name": "A", "value": "b"},
    "networkPolicy.egress.[]": {"ports": [{"port": 7}]},
    "networkPolicy.egress.[].ports.[]": {"port": 7},
}
"""What a mapping holds that a field is tried in."""

WHOLE: dict[str, tuple[Body, Body]] = {
    "ingress.reserveStaticIP": (
        {"staticIPName": "ip", "ingress": {"reserveStaticIP": True}},
        {"staticIPName": "ip"},
    ),
    "scheduling.tolerations.[].tolerationSeconds": (
        {"scheduling": {"tolerations": [{"key": "k", "effect": "NoExecute", "tolerationSeconds": 5}]}},
        {"scheduling": {"tolerations": [{"key": "k", "effect": "NoExecute"}]}},
    ),
}
"""Specs for fields that need others elsewhere."""

ONE_OF = {
    "modelVolume.emptyDir.sizeLimit",
    "ingress.tls.mode",
    "ingress.tls.secretName",
    "ingress.tls.preSharedCert",
}
"""Fields that can't be left out of what they stand in."""


def leaves(schema: Body, path: Path_ = (), *, required: bool = False) -> Iterator[tuple[Path_, Body, bool]]:
    """Path and schema of each field without fields of its own, and whether what it stands in must have it."""
    if any(rule["rule"] == "false" for rule in schema.get("x-kubernetes-validations", ())):
        return  # there only for what its message says
    inner = schema.get("items", {}) if schema.get("type") == "array" else schema
    if inner.get("type") == "object" and "properties" in inner:
        if inner is not schema:
            path = (*path, ITEM)
        for name, below in inner["properties"].items():
            yield from leaves(below, (*path, name), required=name in inner.get("required", ()))
    else:
        yield path, schema, required


def two_values(path: Path_, schema: Body) -> tuple[Any, Any]:
    if given := VALUES.get(".".join(path)):
        return given
    if schema.get("x-kubernetes-int-or-string"):
        return ("3Gi", "2Gi") if path[-1] != "cpu" else (3, 2)
    if schema["type"] == "integer":
        return schema.get("minimum", 1) + 8, schema.get("minimum", 1) + 9
    return {"boolean": (True, False), "string": ("some-name", "other-name")}[schema["type"]]


def spec_with(path: Path_, value: Any) -> Body:
    """A spec with that value at `path`; without the field for None."""
    inner = value
    for depth in range(len(path) - 1, -1, -1):
        if path[depth] == ITEM:
            inner = [inner]
        else:
            beside = BESIDE.get(".".join(path[:depth]), {})
            inner = {**beside, **({} if inner is None else {path[depth]: inner})}
    return {"host": "whisper.example.com", **inner}


def two_specs(path: Path_, schema: Body, required: bool) -> tuple[Body, Body]:
    name = ".".join(path)
    if name in WHOLE:
        one, other = WHOLE[name]
        return {"host": "whisper.example.com", **one}, {"host": "whisper.example.com", **other}
    value, another = two_values(path, schema)
    return spec_with(path, value), spec_with(path, another if required or name in ONE_OF else None)


@pytest.mark.parametrize(
    ("path", "schema", "required"), [pytest.param(*each, id=".".join(each[0])) for each in leaves(SPEC)]
)
def test_every_field_of_the_contract_changes_a_child(path: Path_, schema: Body, required: bool) -> None:
    specs = two_specs(path, schema, required)
    for spec in specs:
        resource = {"metadata": {"name": "whisper", "namespace": "asr"}, "spec": spec}
        assert offline.complaints(resource) == [], spec
    assert made(specs[0]) != made(specs[1])
