"""Parsing: what is absent is filled in, what can't work is a SpecError that says what to write, and no field is forgotten."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.config import Settings
from whisper_operator.endpoint import SpecError, WhisperEndpoint, parse

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings(server_repository="registry.example.com/whisper-server", server_version="1.2.3")
SCHEMA = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())["spec"]["versions"][0][
    "schema"
]
SPEC_SCHEMA = SCHEMA["openAPIV3Schema"]["properties"]["spec"]


def endpoint(settings: Settings = SETTINGS, **spec: Any) -> WhisperEndpoint:
    return parse({"metadata": {"name": "whisper", "namespace": "asr", "uid": "1"}, "spec": spec}, settings)


def test_an_empty_spec_is_the_largest_model_on_one_t4_inside_the_cluster() -> None:
    found = endpoint()
    assert (found.model, found.engine, found.replicas, found.rollout) == (
        "large-v3",
        "openai-whisper",
        1,
        "RollingUpdate",
    )
    assert found.image == "registry.example.com/whisper-server:1.2.3-openai-whisper-large-v3"
    assert found.gpu is not None
    assert (found.gpu.type, found.gpu.spot) == ("nvidia-tesla-t4", False)
    assert found.resources.requests == {"cpu": "4", "memory": "24Gi", "ephemeral-storage": "2Gi"}
    assert found.resources.limits == {"memory": "24Gi", "ephemeral-storage": "2Gi"}
    assert found.limits.request_timeout_seconds == 600
    assert found.public is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [("large", "large-v3"), ("large-v3-turbo", "turbo"), ("turbo", "turbo"), ("tiny.en", "tiny.en")],
)
def test_second_names_of_a_model_share_one_image(written: str, meant: str) -> None:
    assert endpoint(model=written).model == meant
    assert endpoint(model=written).image.endswith(f"-{meant}")


def test_room_for_uploads_follows_the_limits() -> None:
    gib = 1 << 30
    found = endpoint(limits={"maxUploadBytes": gib, "maxQueue": 9})
    assert found.resources.requests["ephemeral-storage"] == "11Gi"


def test_a_limit_alone_is_the_request_too() -> None:
    found = endpoint(resources={"limits": {"cpu": 2, "memory": "8Gi"}})
    assert found.resources.requests["cpu"] == "2"
    assert found.resources.requests["memory"] == "8Gi"


def test_suspended_means_no_replicas_whatever_their_number() -> None:
    assert endpoint(replicas=5, suspend=True).replicas == 0


def test_device_cpu_asks_for_no_gpu() -> None:
    assert endpoint(device="cpu").gpu is None


def test_without_an_image_the_message_says_how_to_get_one() -> None:
    with pytest.raises(SpecError, match="make images") as caught:
        endpoint(Settings())
    assert caught.value.reason == "ImageNotConfigured"
    assert endpoint(Settings(), image="me/server:1").image == "me/server:1"


def test_an_unknown_accelerator_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match="nvidia-l4, nvidia-tesla-a100") as caught:
        endpoint(accelerator={"type": "abacus"})
    assert caught.value.reason == "UnknownAccelerator"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": "two"}, "spec.replicas must be a whole number, not 'two'"),
        ({"replicas": True}, "spec.replicas must be a whole number, not True"),
        ({"limits": 7}, "spec.limits must be a mapping, not 7"),
        ({"limits": {"maxQueue": 1.5}}, "spec.limits.maxQueue must be a whole number"),
        ({"model": ["tiny"]}, "spec.model must be a string"),
        ({"host": "a.example.com", "additionalHosts": [1]}, r"spec.additionalHosts\[0\] must be a string"),
        (
            {"scheduling": {"podLabels": {"a": 1}}},
            "spec.scheduling.podLabels.a must be a string: put quotes around 1",
        ),
        ({"imagePullSecrets": ["x"]}, r"spec.imagePullSecrets\[0\] must be a mapping"),
        ({"imagePullSecrets": [{}]}, r"spec.imagePullSecrets\[0\].name is missing"),
        ({"scheduling": {"env": [{"name": "A"}]}}, r"spec.scheduling.env\[0\].value is missing"),
        (
            {"scheduling": {"topologySpread": [{}]}},
            r"spec.scheduling.topologySpread\[0\].topologyKey is missing",
        ),
        ({"resources": {"requests": {"cpu": []}}}, "spec.resources.requests.cpu must be a quantity"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        endpoint(**spec)


def test_a_resource_that_is_none_at_all() -> None:
    for resource in ({}, {"metadata": None, "spec": None}, {"metadata": {"name": "x"}, "spec": []}):
        with pytest.raises(SpecError):
            parse(resource, SETTINGS)


def leaves(
    schema: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every field of a schema that has no fields of its own; items of a list count under the list's name."""
    if schema.get("type") == "object" and "properties" in schema:
        for name, below in schema["properties"].items():
            yield from leaves(below, (*path, name))
    elif schema.get("type") == "array" and schema["items"].get("type") == "object":
        for name, below in schema["items"]["properties"].items():
            yield from leaves(below, (*path, "[]", name))
    else:
        yield path, schema


VALUES: dict[str, Any] = {
    "model": "tiny",
    "engine": "faster-whisper",
    "accelerator.type": "nvidia-l4",
    "rollout": "Recreate",
    "ingress.class": "traefik",
    "ingress.tls.mode": "none",
    "defaults.language": "de",
}


def value_for(path: tuple[str, ...], schema: dict[str, Any]) -> Any:
    given = VALUES.get(".".join(path))
    if given is not None:
        return given
    if schema.get("x-kubernetes-int-or-string"):
        return 1
    if "enum" in schema:
        return schema["enum"][-1]
    if schema["type"] == "integer":
        return max(schema.get("minimum", 0), 2)
    kinds: dict[str, Any] = {
        "boolean": True,
        "string": "some-text",
        "array": ["some.example.com"],
        "object": {"a": "b"},
    }
    return kinds[schema["type"]]


def nested(path: tuple[str, ...], schema: dict[str, Any]) -> dict[str, Any]:
    spec: Any = value_for(path, schema)
    for depth in range(len(path) - 1, -1, -1):
        name = path[depth]
        if name == "[]":
            siblings = {"name": "A", "value": "B", "topologyKey": "zone", "key": "k"}
            spec = [{**siblings, **spec}]
        else:
            spec = {name: spec}
    return dict(spec)


@pytest.mark.parametrize(
    ("path", "schema"), [pytest.param(p, s, id=".".join(p)) for p, s in leaves(SPEC_SCHEMA)]
)
def test_every_field_of_the_contract_is_carried_out_or_refused_by_name(
    path: tuple[str, ...], schema: dict[str, Any]
) -> None:
    """A field that the schema accepts and the parser forgets would be ignored without a word."""
    base: dict[str, Any] = {} if path[0] == "host" else {"host": "whisper.example.com"}
    spec = nested(path, schema)
    try:
        with_field = endpoint(**{**base, **spec})
    except SpecError as error:
        assert error.reason == "NotImplemented"
        top = "spec." + ".".join(part for part in path if part != "[]")
        assert any(name in error.message for name in (top, f"spec.{path[0]}")), error.message
    else:
        assert with_field != endpoint(**base)
