"""A policy file, read: whatever makes no sense in it is named, since what is not understood would allow everything."""

import re
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
import yaml

from whisper_operator.config import Settings
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.policy.rules import Policy, Rules
from whisper_operator.spec.endpoint import SpecError, parse
from whisper_operator.spec.words import at, said, short


class PolicyError(Exception):
    """The policy file says something that makes no sense; the message names what."""


def load(
    text: str, settings: Settings, complaints: Callable[[Mapping[str, Any]], list[str]] = lambda resource: []
) -> Policy:
    """The policy that a file's content describes; `complaints`: what the API server would refuse of an endpoint.

    Raises PolicyError.
    """
    try:
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise PolicyError(str(error)) from error
    raw = {} if raw is None else raw  # nothing but comments
    if wrong := sorted(_validator().iter_errors(raw), key=lambda error: error.json_path):
        raise PolicyError("; ".join(_complaint(error) for error in wrong[:5]))
    policy = Policy(raw)
    for namespace in (None, *(raw.get("namespaces") or ())):
        try:
            _try(policy.of(namespace or "any"), settings, complaints)
        except (SpecError, ValueError) as error:
            where = f"namespaces.{namespace}" if namespace else "everywhere"
            raise PolicyError(f"{where}: {error}") from error
    return Policy(raw)


def _try(rules: Rules, settings: Settings, complaints: Callable[[Mapping[str, Any]], list[str]]) -> None:
    """Raise SpecError or ValueError where an endpoint that says nothing could not be made."""
    if not rules.defaults:
        return
    resource = {
        "apiVersion": ENDPOINT.api_version,
        "kind": ENDPOINT.name,
        "metadata": {"name": "any", "namespace": rules.namespace},
        "spec": {**rules.defaults, "image": "any", "host": "any.example.com"},
    }
    if wrong := complaints(resource):
        raise ValueError("; ".join(each.replace("spec.", "defaults.", 1) for each in wrong))
    parse(resource, settings)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: of two lists of what is allowed, the last one would win without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if not isinstance(key, str):  # a namespace called 1 or no, of which YAML has made something else
            raise ValueError(f"line {node.start_mark.line + 1}: {key!r} is no text: put it in quotes")
        if keys.count(key) > 1:
            raise ValueError(f"line {node.start_mark.line + 1}: {key!r} stands twice in one mapping")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _complaint(error: jsonschema.ValidationError) -> str:
    if error.instance is None:
        words = "nothing stands there: write [] or {} if that is meant, or leave it out"
    elif error.validator == "pattern":
        words = f"{error.instance!r} can't stand there, but {_meaning(error)}"
    else:
        words = said(error)
    return short(at(re.sub(r"^\$\.?", "", error.json_path), words))


def _meaning(error: jsonschema.ValidationError) -> str:
    name = next((step for step in reversed(error.absolute_path) if isinstance(step, str)), "")
    if name == "namespaces":
        return "the name of a namespace"
    if name == "registries":
        return "a registry, or a path under one, without * and without / at its end"
    if name == "hosts":
        return "a host, or *.DOMAIN; {namespace} stands for the namespace"
    if name in ("cpu", "memory", "ephemeral-storage"):
        return "an amount such as 32 or 192Gi"
    return "a name, or the beginning of one with * at its end, or one with {namespace} and no *"


@cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(
        yaml.safe_load((resources.files(__package__) / "schema.yaml").read_text())
    )
