"""How what is the operator's of a live object comes back to it.

Server-side apply removes what its manager owned and no longer declares, in the same step in which it sets what is declared. So
what somebody put into the operator's domain, or beside a field of which the API allows one alone, is first written over to the
operator in metadata.managedFields, where no value changes, and then goes with the apply. A patch of values could not do that: it
would replace whole lists with others' entries in them, and race with whoever writes to them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from whisper_operator.apply.own_fields import DOMAIN, VOLUMES, Entries, Names, Part, Whole
from whisper_operator.kube.kinds import DEPLOYMENT, FIELD_MANAGER, SERVICE, Kind
from whisper_operator.manifests import Manifest
from whisper_operator.observed.managed_fields import (
    Entry,
    Fields,
    Path,
    at,
    fields_of,
    is_others,
    is_own,
    less,
    name_of,
    paths,
    under,
    union,
)

ABSENT: Any = object()

_POD = ("f:spec", "f:template", "f:spec")
_CONTAINERS = (*_POD, "f:containers")
_VOLUMES = (*_POD, "f:volumes")
RENAMED: Mapping[Kind, Mapping[Path, tuple[str, ...]]] = {
    SERVICE: {("f:spec", "f:ports"): ("port", "protocol")},
    DEPLOYMENT: {
        _CONTAINERS: ("name",),
        (*_CONTAINERS, 'k:{"name":"server"}', "f:ports"): ("containerPort", "protocol"),
    },
}
"""Lists in which an entry that was renamed can't stay beside the one that is put back, with the keys of their entries."""


@dataclass(frozen=True)
class Takeover:
    """What to write to metadata.managedFields, and what for."""

    entries: tuple[Entry, ...]
    fields: Mapping[str, str]
    """Fields that are taken over, and who had each."""


def strays(manifest: Manifest, fields: Fields) -> Fields:
    """Of what others own, what is in the operator's domain and not declared."""
    return _strays(DOMAIN.get(manifest.kind, {}), fields, manifest.body, _FIELDS) or {}


def take_over(manifest: Manifest, live: Mapping[str, Any], *, unowned: bool = False) -> Takeover | None:
    """What has to be written over to the operator before it applies; None: nothing.

    `unowned`: that which nobody owns as well, such as what admission added.
    """
    before: list[Entry] = list(live["metadata"].get("managedFields") or ())
    version = manifest.kind.api_version
    foreign = [each for each in before if is_others(each) and each.get("apiVersion") == version]
    taken: Fields = {}
    found: dict[str, str] = {}
    owned = [(entry, strays(manifest, fields_of(entry))) for entry in foreign]
    for entry, fields in (*owned, *_renamed(manifest, live, foreign)):
        found |= dict.fromkeys(paths(fields), name_of(entry))
        taken = union(taken, fields)
    loose = _mounts_of_nothing(manifest, live)
    if unowned:
        loose = union(loose, leftovers(manifest, live))
    found = {**dict.fromkeys(paths(loose), ""), **found}
    taken = union(taken, loose)
    if not taken:
        return None
    return Takeover(tuple(_handed_over(manifest.kind, before, foreign, taken)), found)


class _Fields:
    """How to walk what somebody owns of an object."""

    @staticmethod
    def names(node: Any) -> list[str]:
        return [key[2:] for key in node if key.startswith("f:")]

    @staticmethod
    def child(node: Any, name: str) -> Any:
        return node.get(f"f:{name}", ABSENT)

    @staticmethod
    def entries(node: Any, key: str) -> Iterator[tuple[str, str, Any]]:
        """By the value of the key: the entry as fieldsV1 names it, and what is in it."""
        for name, below in node.items():
            keys = json.loads(name[2:]) if name.startswith("k:") else {}
            if key in keys:
                yield keys[key], name, below


class _Values:
    """How to walk an object itself."""

    @staticmethod
    def names(node: Any) -> list[str]:
        return list(node) if isinstance(node, Mapping) else []

    @staticmethod
    def child(node: Any, name: str) -> Any:
        return node.get(name, ABSENT) if isinstance(node, Mapping) else ABSENT

    @staticmethod
    def entries(node: Any, key: str) -> Iterator[tuple[str, str, Any]]:
        for item in node:
            yield item[key], _key_of(key, item), item


_FIELDS, _VALUES = _Fields(), _Values()


def leftovers(manifest: Manifest, live: Mapping[str, Any]) -> Fields:
    """Of an object, what is in the operator's domain and not declared, whosever it is."""
    return _strays(DOMAIN.get(manifest.kind, {}), live, manifest.body, _VALUES) or {}


def _strays(part: Part, node: Any, declared: Any, view: _Fields | _Values) -> Fields | None:
    """What of `node` is in that part of the domain and not declared; None: nothing, {}: all of it."""
    found: dict[str, Any] = {}
    if isinstance(part, Whole):
        if declared is ABSENT:
            return {}
        if isinstance(declared, Mapping):
            found = {f"f:{name}": _below(part, node, name, declared, view) for name in view.names(node)}
    elif isinstance(part, Names):
        for name in view.names(node):
            if part.own(name) and (declared is ABSENT or name not in declared):
                found[f"f:{name}"] = {}
    elif isinstance(part, Entries):
        items = {item[part.key]: item for item in declared} if declared is not ABSENT else {}
        for value, name, below in view.entries(node, part.key):
            if value in items:
                found[name] = _strays(part.inside, below, items[value], view)
            elif part.own(value):
                found[name] = {}
    else:
        found = {f"f:{name}": _below(inside, node, name, declared, view) for name, inside in part.items()}
    return {name: below for name, below in found.items() if below is not None} or None


def _below(part: Part, node: Any, name: str, declared: Any, view: _Fields | _Values) -> Fields | None:
    child = view.child(node, name)
    if child is ABSENT:
        return None
    return _strays(part, child, declared.get(name, ABSENT) if declared is not ABSENT else ABSENT, view)


def _renamed(
    manifest: Manifest, live: Mapping[str, Any], foreign: list[Entry]
) -> Iterator[tuple[Entry, Fields]]:
    """What stands in the place of an entry of ours that is gone from a list: the entries of whoever changed the list last."""
    for path, keys in RENAMED.get(manifest.kind, {}).items():
        declared, there = _value(manifest.body, path), _value(live, path)
        names = {_name(item, keys) for item in declared or ()}
        if names <= {_name(item, keys) for item in there or ()}:
            continue
        editor = max(
            (each for each in foreign if at(fields_of(each), path)),
            key=lambda each: str(each.get("time")),
            default=None,
        )
        if editor is not None:
            listed = at(fields_of(editor), path)
            made: Fields = {
                name: {}
                for name, below in listed.items()
                if name.startswith("k:") and "." in below and _name(json.loads(name[2:]), keys) not in names
            }
            yield editor, under(path, made) if made else {}


def _mounts_of_nothing(manifest: Manifest, live: Mapping[str, Any]) -> Fields:
    """Where any container has a volume of the operator's that is no longer declared: it would be refused."""
    if manifest.kind is not DEPLOYMENT:
        return {}
    declared = {volume["name"] for volume in _value(manifest.body, _VOLUMES) or ()}
    gone = {volume["name"] for volume in _value(live, _VOLUMES) or () if volume["name"] in VOLUMES} - declared
    found: Fields = {}
    for containers in ("f:containers", "f:initContainers"):
        for container in _value(live, (*_POD, containers)) or ():
            mounts: Fields = {
                _key_of("mountPath", mount): {}
                for mount in container.get("volumeMounts") or ()
                if mount["name"] in gone
            }
            path = (*_POD, containers, _key_of("name", container), "f:volumeMounts")
            found = union(found, under(path, mounts) if mounts else {})
    return found


def _key_of(key: str, item: Mapping[str, Any]) -> str:
    return f"k:{json.dumps({key: item[key]}, separators=(',', ':'))}"


def _name(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in keys)


def _value(body: Any, path: Path) -> Any:
    """What stands at a path of fieldsV1 in an object; None if nothing does."""
    for key in path:
        if key.startswith("f:"):
            body = body.get(key[2:]) if isinstance(body, Mapping) else None
        else:
            keys = json.loads(key[2:]).items()
            body = next(
                (item for item in body or () if all(item.get(each) == value for each, value in keys)), None
            )
    return body


def _handed_over(kind: Kind, before: list[Entry], foreign: list[Entry], taken: Fields) -> Iterator[Entry]:
    own: Entry = {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": kind.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": {},
    }
    own = next((each for each in before if is_own(each)), own)
    yield {**own, "fieldsV1": union(fields_of(own), taken)}
    for entry in before:
        if is_own(entry):
            continue
        left = less(fields_of(entry), taken) if entry in foreign else fields_of(entry)
        if left:
            yield {**entry, "fieldsV1": left}
