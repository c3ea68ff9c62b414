"""What an endpoint has that does not say: the installation's defaults, where they go together with what it does say."""

from collections.abc import Mapping
from typing import Any

from whisper_operator.spec.exposure import EXTERNAL

MOOT: Mapping[str, tuple[str, ...]] = {
    "accelerator": ("device", "accelerator"),  # a type of its own need not be offered on spot nodes
    "resources": ("resources",),  # a request of the one might exceed a limit of the other
    "resources.requests.ephemeral-storage": ("modelVolume",),
    "resources.limits.ephemeral-storage": ("modelVolume",),
    "engine": ("computeType",),
    "model": ("defaults.language", "defaults.task"),  # not every model knows every language, or translates
    "defaults.language": ("model",),
    "defaults.task": ("model",),
    "limits.maxQueue": ("autoscaling",),
    "ingress.httpsRedirect": ("ingress.tls",),
}
"""Which defaults make no sense beside what else a spec says: the CRD has seen the spec alone, and found it good."""


def completed(spec: Mapping[str, Any], defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """A spec with what it does not say taken from the defaults, where both go together."""
    if not defaults:
        return spec
    given = dict(defaults)
    for path, others in MOOT.items():
        if any(_has(spec, other.split(".")) for other in others):
            given = _without(given, path.split("."))
    ingress = spec.get("ingress") or {}
    if "host" not in spec or (isinstance(ingress, Mapping) and ingress.get("class", EXTERNAL) != EXTERNAL):
        given.pop("ingress", None)
    return merged(given, spec)


def _has(value: Any, path: list[str]) -> bool:
    if not path:
        return True
    return isinstance(value, Mapping) and path[0] in value and _has(value[path[0]], path[1:])


def _without(value: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """The same without what stands at the path, and without a mapping that is empty then."""
    found = {name: below for name, below in value.items() if name != path[0]}
    below = value.get(path[0])
    if len(path) > 1 and isinstance(below, Mapping) and (left := _without(below, path[1:])):
        found[path[0]] = left
    return found


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second where they differ; mappings are merged in the same way, and all else is replaced."""
    found = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if both else value
    return found
