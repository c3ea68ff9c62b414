"""metadata.managedFields: which fields of an object are whose, as the API server writes it down."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from whisper_operator.kube.kinds import FIELD_MANAGER

Fields = Mapping[str, Any]
"""metadata.managedFields[].fieldsV1: `f:name` for a field, `k:{"name":"x"}` or `v:"x"` for an entry of a list, with what is below
it; {} stands for the field as such."""

Path = tuple[str, ...]
"""To one of them."""

Entry = Mapping[str, Any]
"""One of metadata.managedFields."""


def is_own(entry: Entry) -> bool:
    """Whether an entry says what the operator declared last."""
    return (
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    )


def is_others(entry: Entry) -> bool:
    """Whether it says what somebody else has set; a status is nobody's concern."""
    return not is_own(entry) and entry.get("subresource") != "status"


def fields_of(entry: Entry) -> Fields:
    fields: Fields = entry.get("fieldsV1") or {}
    return fields


def name_of(entry: Entry) -> str:
    """A manager as people know it; an autoscaler writes through a subresource."""
    subresource = entry.get("subresource")
    return f"{entry.get('manager')} ({subresource})" if subresource else str(entry.get("manager"))


def holders(entries: Iterable[Entry], path: Path) -> str:
    """Who owns a field, by the managers' names; empty if nobody does, as when it was removed."""
    return ", ".join(
        name_of(entry) for entry in entries if is_others(entry) and at(fields_of(entry), path) is not None
    )


def entry_of(item: Any, owned: Fields) -> tuple[str, Fields] | None:
    """The part of fieldsV1 for one item of a list: `k:{"name":"x"}` for one with keys, `v:"x"` for a member of a set."""
    for name, entry in owned.items():
        mark, _, text = name.partition(":")
        if mark == "k" and isinstance(item, Mapping):
            keys = json.loads(text)
            if all(item.get(key) == keys[key] for key in keys):
                return name, entry
        elif mark == "v" and json.loads(text) == item:
            return name, entry
    return None


def paths(fields: Fields, above: Path = ()) -> Iterator[str]:
    """Its fields in words."""
    for key, below in fields.items():
        if key == ".":
            continue
        if below and set(below) != {"."}:
            yield from paths(below, (*above, key))
        else:
            yield in_words((*above, key))


def in_words(path: Path) -> str:
    """Such as spec.template.spec.containers[server].env[WHISPER_VAD]: an entry of a list by its first key."""
    words = ""
    for key in path:
        mark, _, text = key.partition(":")
        if mark == "f":
            words += f".{text}" if words else text
        else:
            value = json.loads(text)
            words += f"[{next(iter(value.values())) if isinstance(value, dict) else value}]"
    return words


def at(fields: Fields, path: Path) -> Any:
    """What is below a path; None if it is not among the fields. An entry of a list may be given by more than its keys."""
    for key in path:
        below = fields.get(key)
        if below is None and key.startswith("k:"):
            _, below = entry_of(json.loads(key[2:]), fields) or (key, None)
        if below is None:
            return None
        fields = below
    return fields


def under(path: Path, fields: Fields) -> Fields:
    """Fields with a path above them."""
    for key in reversed(path):
        fields = {key: fields}
    return fields


def union(one: Fields, other: Fields) -> dict[str, Any]:
    """Of two sets of fields."""
    return {
        **one,
        **{key: union(one[key], below) if key in one else below for key, below in other.items()},
    }


def less(fields: Fields, taken: Fields) -> Fields:
    """`fields` without what is taken, whatever is below it."""
    left: dict[str, Any] = {}
    for key, below in fields.items():
        if key not in taken:
            left[key] = below
        elif taken[key]:
            rest = less(below, taken[key])
            if rest:
                left[key] = rest
    return left
