"""What the API server would refuse of a WhisperEndpoint: the CRD's schema and rules, without a cluster.

For `render`, whose exit status a pipeline goes by. The controller needs none of it: what it sees has been let through.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import celpy
import jsonschema
import yaml
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError
from kubernetes.utils.quantity import parse_quantity

CRD = "whisperendpoints.yaml"
LONGEST = 300
"""Characters of one complaint; it may quote what it is about."""


def complaints(resource: Mapping[str, Any]) -> list[str]:
    """What is wrong with a resource, each with where that is; empty if the API server would take it.

    As there, the rules are looked at once the types are right. A null counts as absent.
    """
    given = _without_nulls({name: part for name, part in resource.items() if name != "status"})
    if not isinstance(given.get("metadata", {}).get("name"), str):
        return ["metadata.name is missing, or no text"]
    wrong = sorted(_validator().iter_errors(given), key=lambda error: error.json_path)
    found = [_at(error.json_path.removeprefix("$").removeprefix("."), error.message) for error in wrong]
    return [_short(each) for each in found or _against_rules(_schema(), given, "")]


def _against_rules(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule, value):
            yield _at(path, rule["message"])
    if isinstance(value, Mapping):
        below = schema.get("additionalProperties")
        for name, item in value.items():
            known = schema.get("properties", {}).get(name) or below or {}
            yield from _against_rules(known, item, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        seen = [tuple(item.get(key) for key in keys) for item in value] if keys else []
        if len(set(seen)) < len(seen):
            yield f"{path}: two entries have the same {' and '.join(keys)}"
        for index, item in enumerate(value):
            yield from _against_rules(schema.get("items", {}), item, f"{path}[{index}]")


def _holds(rule: Mapping[str, Any], value: Any) -> bool:
    try:
        return bool(_program(rule["rule"]).evaluate({"self": json_to_cel(value)}))
    except CELEvalError:  # which the API server refuses too
        return False


@cache
def _schema() -> dict[str, Any]:
    text = (resources.files(__package__) / CRD).read_text()
    (version,) = yaml.safe_load(text)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


@cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(_as_json_schema(_schema()))


def _as_json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Kubernetes' own words in those of JSON Schema. A field that the schema does not know is kubectl's to refuse."""
    found = dict(schema)
    if "properties" in schema:
        found["properties"] = {name: _as_json_schema(each) for name, each in schema["properties"].items()}
        found["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), Mapping):
        found["additionalProperties"] = _as_json_schema(schema["additionalProperties"])
    if "items" in schema:
        found["items"] = _as_json_schema(schema["items"])
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if schema.get("x-kubernetes-list-type") == "set":
        found["uniqueItems"] = True
    return found


@cache
def _program(rule: str) -> Any:
    environment = celpy.Environment()
    functions: Any = {"quantity": _quantity, "compareTo": _compare}
    return environment.program(environment.compile(rule), functions=functions)


def _quantity(text: celtypes.Value) -> celtypes.Value:
    return celtypes.DoubleType(float(parse_quantity(str(text))))


def _compare(one: celtypes.DoubleType, other: celtypes.DoubleType) -> celtypes.Value:
    return celtypes.IntType(int(one > other) - int(one < other))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _at(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def _short(text: str) -> str:
    """What is wrong stands at one end of a complaint or the other, and what is quoted between."""
    half = (LONGEST - 4) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}....{text[-half:]}"
