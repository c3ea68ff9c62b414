"""A policy file, read: whatever makes no sense in it is named, since what is not understood would allow everything."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
import yaml

from whisper_operator.config import Settings
from whisper_operator.kube.kinds import ENDPOINT
from whisper_operator.policy.amounts import COUNTED, RESOURCES
from whisper_operator.policy.rules import Policy, Rules
from whisper_operator.spec.endpoint import SpecError, parse
from whisper_operator.spec.words import at, said, short

MERGE = "tag:yaml.org,2002:merge"
MOST_VALUES = 1_000_000
"""In a file: a ConfigMap has room for a fifth of them."""
DEEPEST = 100
"""How many levels of a file may stand in one another; with some thousand, reading it would end the process."""


class PolicyError(Exception):
    """The policy file says something that makes no sense; the message names what."""


def load(
    text: str, settings: Settings, complaints: Callable[[Mapping[str, Any]], list[str]] = lambda resource: []
) -> Policy:
    """The policy that a file's content describes; `complaints`: what the API server would refuse of an endpoint.

    Raises PolicyError.
    """
    try:
        raw = _parse(text)
    except (yaml.YAMLError, ValueError) as error:
        raise PolicyError(str(error)) from error
    raw = {} if raw is None else raw  # nothing but comments
    if wrong := sorted(_validator().iter_errors(raw), key=lambda error: error.json_path):
        raise PolicyError("; ".join(_complaint(error) for error in wrong[:5]))
    policy, tried = Policy(raw), set[str]()
    for namespace in (None, *(raw.get("namespaces") or ())):
        try:
            rules = policy.of(namespace or "any")
            defaults = json.dumps(rules.defaults, sort_keys=True, default=str)
            if defaults not in tried:  # that takes a tenth of a second, and many namespaces have the same
                _try(rules, settings, complaints)
            tried.add(defaults)
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


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # ten times as fast, where it was built
    """Refuses a key that stands twice: of two lists of what is allowed, the last one would win without a word."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Hashable, Any]:
    line = node.start_mark.line + 1
    own = Counter(key.value for key, _ in node.value if key.tag != MERGE)
    for name, count in own.items():
        if count > 1:
            raise ValueError(f"line {line}: {name!r} stands twice in one mapping")
    loader.flatten_mapping(node)
    found: dict[Hashable, Any] = loader.construct_mapping(node, deep=True)
    for key in found:
        if not isinstance(key, str):  # a namespace called 1 or no, of which YAML has made something else
            raise ValueError(f"line {line}: {key!r} is no text: put it in quotes")
    return found


def _number(loader: Any, node: yaml.ScalarNode) -> float:
    found = float(loader.construct_yaml_float(node))
    if not math.isfinite(found):
        raise ValueError(
            f"line {node.start_mark.line + 1}: {node.value} is no amount: write none for no ceiling"
        )
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def _parse(text: str) -> Any:
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise ValueError(f"line {line}: more than {DEEPEST} levels stand in one another")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_VALUES:
            raise ValueError(
                f"it has more than {MOST_VALUES} values, with all that its aliases (*) stand for"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values it stands for: some lines of aliases of aliases can be more than any machine can hold."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError(f"line {node.start_mark.line + 1}: what an alias (*) stands for is recursive")
        return known[id(node)]
    known[id(node)] = 0
    below = node.value if isinstance(node.value, list) else []
    parts = [part for each in below for part in (each if isinstance(each, tuple) else (each,))]
    known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _complaint(error: jsonschema.ValidationError) -> str:
    if error.instance is None:
        words = "nothing stands there: write [] or {} if that is meant, or leave it out"
    elif error.validator == "required":
        words = "preset has to be said: multi-tenant, or none, by which everything is allowed that is not ruled out here"
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
    if name in RESOURCES:
        return "an amount such as 32 or 192Gi, or none for no ceiling"
    if name in COUNTED:
        return "a whole number, or none for no ceiling"
    if name in ("repository", "version"):
        return "a repository without a tag" if name == "repository" else "a tag's beginning"
    return "a name, or the beginning of one with * at its end, or one with {namespace} and no *"


@cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(
        yaml.safe_load((resources.files(__package__) / "schema.yaml").read_text())
    )
