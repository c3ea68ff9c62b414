"""What has to be written so that the live children are the desired ones: pure, and without memory.

Server-side apply keeps in metadata.managedFields which fields are whose. A field that somebody edits by hand leaves our entry
there; a value that admission rewrites stays in it. So a child differs when the hash of what was applied is another, or when our
entry lacks a field that we declare. A value that merely differs is admission's doing and no drift: writing it again would
change nothing, for ever.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from whisper_operator.kube.kinds import DELETION_POLICY, HASH_ANNOTATION, INGRESS
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed, class_of

IDENTITY = {"apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.uid"}
"""Never listed in managedFields."""


@dataclass(frozen=True)
class Plan:
    """Writes to make, in this order; empty when settled."""

    create: tuple[Manifest, ...] = ()
    update: tuple[tuple[Manifest, Child], ...] = ()
    delete: tuple[Child, ...] = ()
    wait: tuple[Child, ...] = ()
    """Wanted children that are on their way out; they can be made again when they are gone."""


def plan(desired: Iterable[Manifest], observed: Observed) -> Plan:
    """From what should be and what is to what to write."""
    wanted = {(manifest.kind, manifest.name): manifest for manifest in desired}
    create, update, wait, replaced = [], [], [], []
    for key, manifest in wanted.items():
        child = observed.children.get(key)
        if child is None:
            create.append(manifest)
        elif child.deleting:
            wait.append(child)
        elif _turns_into_another(manifest, child):
            replaced.append(child)
        elif differs(manifest, child):
            update.append((manifest, child))
    unwanted = tuple(
        child
        for key, child in observed.children.items()
        if key not in wanted and not child.deleting and not _precious(child)
    )
    return Plan(tuple(create), tuple(update), (*unwanted, *replaced), (*wait, *replaced))


def _turns_into_another(manifest: Manifest, child: Child) -> bool:
    """Whether it has to go before what is declared now is made: an Ingress that another controller shall look after.

    Its load balancer is taken down in any case, surely so only with it, and its status would go on naming that one's address
    (https://github.com/kubernetes/ingress-gce/issues/1252). A class that somebody edited by hand is put back instead.
    """
    if manifest.kind is not INGRESS or class_of(manifest.body) == child.ingress_class:
        return False
    return child.applied_hash != fingerprint(manifest)


def _precious(child: Child) -> bool:
    """Whether deleting it might take more than the object away: an address whose annotation is not the one that we declare."""
    return not child.kind.owned and f'"f:{DELETION_POLICY}"' not in child.own_fields


def differs(manifest: Manifest, child: Child) -> bool:
    """Whether the child has to be applied again."""
    return child.applied_hash != fingerprint(manifest) or bool(missing(manifest, child) - child.refused)


def applied(manifest: Manifest, *, uid: str | None = None) -> dict[str, Any]:
    """The body to send: the manifest with the hash of itself and, for a live object, its uid, so that no other is hit.

    With a resourceVersion too, if a part of it was read from the live object: a newer value must not be put back.
    """
    metadata = dict(manifest.body["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), HASH_ANNOTATION: fingerprint(manifest)}
    if uid is not None:
        metadata["uid"] = uid
        if manifest.expected_resource_version is not None:
            metadata["resourceVersion"] = str(manifest.expected_resource_version)
    return {**manifest.body, "metadata": metadata}


def after_apply(manifest: Manifest, child: Child) -> Child:
    """The child as our own apply returned it, remembering what admission took out of it: asking again would not help."""
    return replace(child, refused=missing(manifest, child))


def fingerprint(manifest: Manifest) -> str:
    """Hash of all that is declared; the same on every machine and in every process."""
    text = json.dumps(manifest.body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def missing(manifest: Manifest, child: Child) -> frozenset[str]:
    """Paths of the declared fields that are not the operator's in the live object, such as `spec.template.spec.containers`."""
    return frozenset(path for path, _ in _missing(manifest, child))


def reshaped(manifest: Manifest, child: Child) -> bool:
    """Whether somebody removed or renamed an entry of a list that we declare, such as a Service's port.

    Applying again can't mend that: it would add our entry beside the renamed one. What was never applied as it is now can't have
    been lost, though: a changed declaration is applied first.
    """
    if child.applied_hash != fingerprint(manifest):
        return False
    lost = (
        pair
        for pair in _missing(manifest, child)
        if pair[0] not in child.refused and pair[0].startswith("spec")
    )
    return any(path.endswith("]") or isinstance(value, list) for path, value in lost)


def _missing(manifest: Manifest, child: Child) -> list[tuple[str, Any]]:
    owned = json.loads(child.own_fields)
    if not owned:
        return list(manifest.body.items())
    return [(path, value) for path, value in _unowned(manifest.body, owned, "") if path not in IDENTITY]


def _unowned(value: Any, owned: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Paths and values that `owned` lacks: the part of fieldsV1 for `value`, where a leaf, {}, stands for all below it."""
    if not owned or not value:
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            below = f"{path}.{name}" if path else name
            if f"f:{name}" not in owned:
                yield below, item
            else:
                yield from _unowned(item, owned[f"f:{name}"], below)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            below = f"{path}[{index}]"
            entry = _list_entry(item, owned)
            if entry is None:
                yield below, item
            else:
                yield from _unowned(item, entry, below)


def _list_entry(item: Any, owned: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of fieldsV1 for one item of a list: `k:{"name":"x"}` for one with keys, `v:"x"` for a member of a set."""
    for name, entry in owned.items():
        mark, _, text = name.partition(":")
        if mark == "k" and isinstance(item, Mapping):
            keys = json.loads(text)
            if all(item.get(key) == keys[key] for key in keys):
                return dict(entry)
        elif mark == "v" and json.loads(text) == item:
            return dict(entry)
    return None
