"""What a later CRD takes away from objects that an earlier one let into the store.

Kubernetes validates the whole object at every write, but leaves alone what that write does not change ("ratcheting"): a value
that a later schema or rule refuses stays, as long as the part that is refused stays as it is. That covers new bounds and new
rules on a value that is a part of its own. It does not cover

- what is no validation: a field that is gone is pruned by the next write, and a default appears in every stored object;
- required fields, kinds of lists, oneOf and its like, of which Kubernetes promises nothing, and transition rules;
- rules and bounds on an object, a map or a list, where a change of something else in it is a change of it. The items of a list
  that is no map of items have nothing by which Kubernetes could find their old selves: they count with their list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

Schema = Mapping[str, Any]

KEPT_NAMES = ("group", "scope")
UPPER = ("maxLength", "maxItems", "maxProperties", "maximum")
LOWER = ("minLength", "minItems", "minProperties", "minimum")
OTHER_BOUNDS = ("pattern", "format", "exclusiveMaximum", "exclusiveMinimum", "multipleOf", "uniqueItems")
SHAPE = (
    *("type", "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
    *("x-kubernetes-map-type", "x-kubernetes-embedded-resource", "allOf", "anyOf", "oneOf", "not"),
)
GRANTS = ("nullable", "x-kubernetes-preserve-unknown-fields")


@dataclass(frozen=True)
class Change:
    """`ratchets`: what is stored stays editable in all but the very value that is refused."""

    part: str
    what: str
    ratchets: bool = False

    def __str__(self) -> str:
        return f"{self.part}: {self.what}"


def changes(old: Schema, new: Schema) -> Iterator[Change]:
    """Of two CustomResourceDefinitions.

    Objects are converted by changing their apiVersion only, so that a version which the old one lacks is held against the one
    that it stored.
    """
    before, after = old["spec"], new["spec"]
    for key in KEPT_NAMES:
        if before[key] != after[key]:
            yield Change(key, f"{before[key]} became {after[key]}")
    for key, value in before["names"].items():
        now = after["names"].get(key)
        if isinstance(value, list):
            for gone in (each for each in value if each not in (now or ())):
                yield Change(f"names.{key}", f"{gone} is gone")
        elif now != value:
            yield Change(f"names.{key}", f"{value} became {now}")
    if after.get("conversion", {}).get("strategy", "None") != "None":
        yield Change("conversion", "objects can't be read while its webhook is away")

    versions = {each["name"]: each for each in after["versions"]}
    for each in before["versions"]:
        kept = versions.get(each["name"])
        if kept is None:
            yield Change(each["name"], "the version is gone, and objects are stored in it")
        elif each["served"] and not kept["served"]:
            yield Change(each["name"], "the version is not served any more")
    known = {each["name"]: each for each in before["versions"]}
    (stored,) = (each for each in before["versions"] if each["storage"])
    for name, version in versions.items():
        yield from _of_version(name, known.get(name, stored), version)
    # A write by a version drops what only another one knows.
    served = [each for each in after["versions"] if each["served"]]
    for one, other in permutations(served, 2):
        for part in sorted(_fields(_root(one)) - _fields(_root(other))):
            yield Change(f"{other['name']}{part}", f"is lacking, and is a field of {one['name']}")


def _of_version(name: str, old: Schema, new: Schema) -> Iterator[Change]:
    given = new.get("subresources", {})
    for subresource, settings in old.get("subresources", {}).items():
        if subresource not in given:
            yield Change(name, f"subresource {subresource} is gone")
            continue
        for key, value in settings.items():
            if given[subresource].get(key) != value:
                yield Change(name, f"{subresource}.{key} became {given[subresource].get(key)}")
    columns = {each["name"]: each for each in new.get("additionalPrinterColumns", ())}
    for column in old.get("additionalPrinterColumns", ()):
        if column["name"] not in columns:
            yield Change(name, f"column {column['name']} is gone")
    yield from _of_schema(name, _root(old), _root(new), True)


def _root(version: Schema) -> Schema:
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def _fields(schema: Schema, part: str = "") -> set[str]:
    below = {f"{part}.{name}": each for name, each in schema.get("properties", {}).items()}
    if "items" in schema:
        below[f"{part}[]"] = schema["items"]
    return {*below}.union(*(_fields(each, path) for path, each in below.items()))


def _of_schema(part: str, old: Schema, new: Schema, found_again: bool) -> Iterator[Change]:
    """`found_again`: whether Kubernetes can tell which value this one was before."""
    for key in SHAPE:
        if old.get(key) != new.get(key):
            yield Change(part, f"{key} {old.get(key)} became {new.get(key)}")
    for key in GRANTS:
        if old.get(key) and not new.get(key):
            yield Change(part, f"{key} is gone")
    if old.get("default") != new.get("default"):
        yield Change(part, f"default {old.get('default')} became {new.get('default')}")
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield Change(f"{part}.{name}", "became required")
    if "enum" in old and "enum" in new:
        for value in old["enum"]:
            if value not in new["enum"]:
                yield Change(part, f"value {value} is gone")
    yield from _of_bounds(part, old, new, found_again)
    yield from _of_fields(part, old, new, found_again)


def _of_bounds(part: str, old: Schema, new: Schema, found_again: bool) -> Iterator[Change]:
    alone = found_again and not any(key in new for key in ("properties", "additionalProperties", "items"))
    for keys, sign in ((UPPER, 1), (LOWER, -1)):
        for key in keys:
            if key in new and (key not in old or sign * new[key] < sign * old[key]):
                yield Change(part, f"{key} {old.get(key)} became {new[key]}", alone)
    for key in OTHER_BOUNDS:
        if new.get(key) and old.get(key) != new[key]:
            yield Change(part, f"{key} {old.get(key)} became {new[key]}", alone)
    if "enum" in new and "enum" not in old:
        yield Change(part, f"only {', '.join(map(str, new['enum']))} are left", alone)
    known = [each["rule"] for each in old.get("x-kubernetes-validations", ())]
    for each in new.get("x-kubernetes-validations", ()):
        if each["rule"] not in known:
            yield Change(part, f"rule: {each['message']}", alone and "oldSelf" not in each["rule"])


def _of_fields(part: str, old: Schema, new: Schema, found_again: bool) -> Iterator[Change]:
    fields = new.get("properties", {})
    for name, schema in old.get("properties", {}).items():
        if name in fields:
            yield from _of_schema(f"{part}.{name}", schema, fields[name], found_again)
        else:
            yield Change(f"{part}.{name}", "the field is gone: the next write would lose it")
    for name in fields:
        if name not in old.get("properties", {}) and "default" in fields[name]:
            yield Change(f"{part}.{name}", f"is new, and every stored object gets {fields[name]['default']}")
    if values := old.get("additionalProperties"):
        if not (others := new.get("additionalProperties")):
            yield Change(part, "takes no other fields any more: the next write would lose them")
        elif isinstance(others, Mapping):
            before = values if isinstance(values, Mapping) else {}
            yield from _of_schema(f"{part}.*", before, others, found_again)
    if "items" in old and "items" in new:
        found = found_again and new.get("x-kubernetes-list-type") == "map"
        yield from _of_schema(f"{part}[]", old["items"], new["items"], found)
