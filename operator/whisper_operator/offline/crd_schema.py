"""What the API server would refuse of a WhisperEndpoint: the CRD's schema and rules, without a cluster.

For `render`, whose exit status a pipeline goes by. The controller needs none of it: what it sees has been let through.
"""

import ipaddress
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

from whisper_operator.spec.egress import is_cidr
from whisper_operator.spec.fields import without_nulls
from whisper_operator.spec.quantity import number
from whisper_operator.spec.words import at, said, short

CRD = "whisperendpoints.yaml"


def complaints(resource: Mapping[str, Any]) -> list[str]:
    """What is wrong with a resource, each with where that is; empty if the API server would take it.

    As there, the rules are looked at once the types are right. A null counts as absent.
    """
    given = without_nulls({name: part for name, part in resource.items() if name != "status"})
    if not isinstance(given.get("metadata", {}).get("name"), str):
        return ["metadata.name is missing, or no text"]
    # No rule reads more, and kubectl passes on all else.
    given["metadata"] = {"name": given["metadata"]["name"]}
    wrong = sorted(_validator().iter_errors(given), key=lambda error: error.json_path)
    found = [at(error.json_path.removeprefix("$").removeprefix("."), said(error)) for error in wrong]
    return [short(each) for each in found or _against_rules(schema(), given, "")]


def _against_rules(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule, _in_cel(schema, value)):
            yield at(path, rule["message"])
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


def _in_cel(schema: Mapping[str, Any], value: Any) -> Any:
    """The value as rules see it: names of fields that are no names in CEL are spelled otherwise, keys of maps are not."""
    return json_to_cel(_spelled(schema, value))


def _spelled(schema: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(schema.get("items", {}), item) for item in value]
    if not isinstance(value, Mapping):
        return value
    known = schema.get("properties", {})
    return {
        _escaped(name) if name in known else name: _spelled(known.get(name, {}), item)
        for name, item in value.items()
    }


def _escaped(name: str) -> str:
    for sign, word in (("-", "__dash__"), (".", "__dot__"), ("/", "__slash__")):
        name = name.replace(sign, word)
    return name


def _holds(rule: Mapping[str, Any], value: Any) -> bool:
    try:
        return bool(_program(rule["rule"]).evaluate({"self": value}))
    except CELEvalError:  # which the API server refuses too
        return False


@cache
def schema() -> dict[str, Any]:
    """Of the version that this operator knows."""
    text = (resources.files(__package__) / CRD).read_text()
    (version,) = yaml.safe_load(text)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


@cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(_as_json_schema(schema()))


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
    if "integer" in found.get("type", ()):
        found = {"minimum": -(2**63), "maximum": 2**63 - 1, **found}
    if schema.get("x-kubernetes-list-type") == "set":
        found["uniqueItems"] = True
    return found


@cache
def _program(rule: str) -> Any:
    environment = celpy.Environment()
    functions: Any = {
        "quantity": _quantity,
        "isQuantity": _is_quantity,
        "compareTo": _compare,
        "isCIDR": _is_cidr,
        "cidr": _cidr,
        "masked": _masked,
    }
    return environment.program(environment.compile(rule), functions=functions)


def _quantity(text: celtypes.Value) -> celtypes.Value:
    return celtypes.DoubleType(float(number(str(text))))


def _is_quantity(text: celtypes.Value) -> celtypes.Value:
    try:
        number(str(text))
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType(True)


def _is_cidr(text: celtypes.Value) -> celtypes.Value:
    return celtypes.BoolType(is_cidr(str(text)))


def _cidr(text: celtypes.Value) -> celtypes.Value:
    return celtypes.StringType(str(ipaddress.ip_interface(str(text))))


def _masked(cidr: celtypes.Value) -> celtypes.Value:
    return celtypes.StringType(str(ipaddress.ip_network(str(cidr), strict=False)))


def _compare(one: celtypes.DoubleType, other: celtypes.DoubleType) -> celtypes.Value:
    return celtypes.IntType(int(one > other) - int(one < other))
