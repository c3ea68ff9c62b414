"""What has to be written so that the live children are the desired ones: pure, and without memory.

Server-side apply keeps in metadata.managedFields which fields are whose. A field that somebody edits by hand leaves our entry
there; a value that admission rewrites stays in it. So a child differs when the hash of what was applied is another, when our
entry lacks a field that we declare, or when another's has one of our domain that we don't. A value that merely differs is
admission's doing and no drift: writing it again would change nothing, for ever.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from whisper_operator.apply.ownership import strays
from whisper_operator.kube.kinds import (
    CLASS_ANNOTATION,
    DELETION_POLICY,
    DEPLOYMENT,
    HASH_ANNOTATION,
    INGRESS,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed, class_of
from whisper_operator.observed.managed_fields import (
    Fields,
    Path,
    at,
    entry_of,
    holders,
    in_words,
    is_own,
    paths,
)

IDENTITY = {("f:apiVersion",), ("f:kind",)} | {
    ("f:metadata", f"f:{name}") for name in ("name", "namespace", "uid")
}
"""Never listed in managedFields."""

NOT_THERE = "1"
"""A resourceVersion that no object has: etcd's first is 2. Of "0", an apply takes no notice."""

HASH_PATH = f"metadata.annotations.{HASH_ANNOTATION}"


@dataclass(frozen=True)
class Plan:
    """Writes to make; empty when settled. Which comes before which, the applier knows."""

    create: tuple[Manifest, ...] = ()
    update: tuple[tuple[Manifest, Child], ...] = ()
    delete: tuple[Child, ...] = ()
    wait: tuple[Child, ...] = ()
    """Wanted children that are on their way out; they can be made again when they are gone."""
    scale: tuple[tuple[Child, int], ...] = ()
    """Deployments to scale to that many replicas, and to leave as they are otherwise."""
    annotate: tuple[tuple[Child, Mapping[str, str | None]], ...] = ()
    """Children to annotate, likewise; None takes an annotation away."""


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
        if key not in wanted and not child.deleting and not _precious(child) and _is_visible(child, observed)
    )
    return Plan(tuple(create), tuple(update), (*unwanted, *replaced), (*wait, *replaced))


def frozen(resource: Raw, observed: Observed) -> Plan:
    """Of a spec that can't be carried out: nothing, but for `suspend`, as a GPU costs money whatever else is wrong."""
    if not is_suspended(resource):
        return Plan()
    return Plan(scale=tuple((child, 0) for child in observed.of_kind(DEPLOYMENT) if runs(child)))


def is_suspended(resource: Raw) -> bool:
    """Whether its spec says so, whatever else it says."""
    spec = resource.get("spec")
    return isinstance(spec, Mapping) and spec.get("suspend") is True


def runs(child: Child) -> bool:
    """Whether a Deployment has pods, or is about to."""
    return not child.deleting and child.spec.get("replicas", 1) != 0


def _turns_into_another(manifest: Manifest, child: Child) -> bool:
    """Whether it has to go before what is declared now is made: an Ingress that another controller shall look after.

    Its load balancer is taken down in any case, surely so only with it, and its status would go on naming that one's address
    (https://github.com/kubernetes/ingress-gce/issues/1252). A class that somebody edited by hand is put back instead, whatever
    else has changed by then: only one that is the operator's own was declared once. An Ingress without a hash is in the middle
    of being put right.
    """
    if manifest.kind is not INGRESS or class_of(manifest.body) == child.ingress_class:
        return False
    if child.applied_hash in (None, fingerprint(manifest)):
        return False
    if child.owns("metadata", "annotations", CLASS_ANNOTATION):
        return True
    return child.owns("spec", "ingressClassName") and f'"f:{CLASS_ANNOTATION}"' not in child.others_fields


def _is_visible(child: Child, observed: Observed) -> bool:
    """Whether its kind can be read: of an optional one that can't be, nothing is declared, and what is there stays."""
    return not child.kind.optional or child.kind in observed.optional


def _precious(child: Child) -> bool:
    """Whether deleting it might take more than the object away: an address whose annotation is not the one that we declare."""
    return not child.kind.owned and f'"f:{DELETION_POLICY}"' not in child.own_fields


def differs(manifest: Manifest, child: Child) -> bool:
    """Whether the child has to be applied again."""
    return is_new(manifest, child) or bool(lost(manifest, child))


def is_new(manifest: Manifest, child: Child) -> bool:
    """Whether what is declared now was not what was applied last."""
    declared = fingerprint(manifest)
    return child.applied_hash != declared and _stripped(declared) not in child.refused


def lost(manifest: Manifest, child: Child) -> frozenset[str]:
    """Paths of fields that are somebody else's and should not be: declared ones, and those of the operator's domain."""
    foreign = json.loads(child.others_fields)
    return (missing(manifest, child) - child.refused).union(
        paths(strays(manifest, foreign)) if foreign else ()
    )


def edited(manifest: Manifest, child: Child) -> bool:
    """Whether somebody else has set what is declared of a Deployment's pods."""
    foreign, pods = json.loads(child.others_fields), ("f:spec", "f:template")
    if not foreign:
        return False
    taken = (path for path in _missing(manifest, child.own_fields) if at(foreign, path) is not None)
    return any(path[:2] == pods for path in taken) or at(strays(manifest, foreign), pods) is not None


def applied(manifest: Manifest, *, uid: str | None = None) -> dict[str, Any]:
    """The body to send: the manifest with the hash of itself and, for a live object, its uid, so that no other is hit.

    With a resourceVersion too, if a part of it was read from the live object: a newer value must not be put back. One that is to
    be made has a version that no object has, so that the API server makes it or else reports a conflict: it must not turn out to
    be somebody's that no list has shown yet.
    """
    metadata = dict(manifest.body["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), HASH_ANNOTATION: fingerprint(manifest)}
    if uid is None:
        metadata["resourceVersion"] = NOT_THERE
    else:
        metadata["uid"] = uid
        if manifest.expected_resource_version is not None:
            metadata["resourceVersion"] = str(manifest.expected_resource_version)
    return {**manifest.body, "metadata": metadata}


def after_apply(manifest: Manifest, child: Child) -> Child:
    """The child as our own apply returned it, remembering what admission took out of it: asking again would not help."""
    declared = fingerprint(manifest)
    hashless = {_stripped(declared)} if child.applied_hash != declared else set()
    return replace(child, refused=missing(manifest, child) | hashless)


def _stripped(declared: str) -> str:
    """How it is remembered that the answer to an apply lacked the hash of what was declared."""
    return f"{HASH_PATH}={declared}"


def fingerprint(manifest: Manifest) -> str:
    """Hash of all that is declared; the same on every machine and in every process."""
    text = json.dumps(manifest.body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def missing(manifest: Manifest, child: Child) -> frozenset[str]:
    """Paths of the declared fields that are not the operator's in the live object, such as `spec.template.spec.containers`."""
    return frozenset(in_words(path) for path in _missing(manifest, child.own_fields))


def editors(manifest: Manifest, entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Of a live object by its managedFields: the declared fields that are not the operator's, and whose each is."""
    entries = list(entries)
    own = next((json.dumps(entry["fieldsV1"]) for entry in entries if is_own(entry)), "{}")
    return {in_words(path): holders(entries, path) for path in _missing(manifest, own)}


def _missing(manifest: Manifest, own_fields: str) -> list[Path]:
    owned = json.loads(own_fields)
    return [path for path in _unowned(manifest.body, owned, ()) if path not in IDENTITY]


def _unowned(value: Any, owned: Fields, path: Path) -> Iterator[Path]:
    """Paths that `owned` lacks: the part of fieldsV1 for `value`, where a leaf, {}, stands for all below it."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            below = (*path, f"f:{name}")
            if below[-1] not in owned:
                yield below
            elif owned[below[-1]] and item:
                yield from _unowned(item, owned[below[-1]], below)
    elif isinstance(value, list):
        for item in value:
            found = entry_of(item, owned)
            if found is None:
                yield (*path, _unnamed(item))
            elif found[1] and item:
                yield from _unowned(item, found[1], (*path, found[0]))


def _unnamed(item: Any) -> str:
    """An entry of a list that nothing is known of, and so not which are its keys: by all that it is, its name first."""
    if not isinstance(item, Mapping):
        return f"v:{json.dumps(item)}"
    name = {"name": item["name"]} if "name" in item else {}
    return f"k:{json.dumps({**name, **item})}"
