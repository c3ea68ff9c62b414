"""The newest known state of every endpoint and child, fed by watch events, lists and answers to our own writes.

Watch events alone are not enough: what is deleted while a watch is broken is never reported. So every kind is listed as
well, and what a list lacks is dropped. States of one object are ordered by resourceVersion; an older one never replaces a newer.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from whisper_operator.claims import Claims
from whisper_operator.informer.witnesses import Witnesses
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    ENDPOINT,
    ENDPOINT_LABEL,
    EVENT,
    INGRESS,
    POD,
    REPLICA_SET,
    Kind,
)
from whisper_operator.kube.objects import Key, Raw
from whisper_operator.observed.children import Child, Observed
from whisper_operator.observed.pods import Pod, ReplicaSet, Warning, label_of


class Store:
    """Not thread-safe: it lives on the event loop."""

    def __init__(self) -> None:
        self._endpoints: dict[Key, Raw] = {}
        self._children: dict[Key, dict[tuple[Kind, str], Child]] = {}
        self._home: dict[str, Key] = {}
        """Under which key a child is filed, by its uid: its labels and owner may change."""
        self._gone: dict[Kind, dict[str, int]] = {}
        """By uid, the version at which an object was deleted: a list that was on its way must not bring it back."""
        self.claims = Claims()
        self._pods = Witnesses(Pod.of, _labelled)
        self._replica_sets = Witnesses(ReplicaSet.of, _labelled)
        self._warnings = Witnesses(Warning.of, self._named)
        self._witnesses: dict[Kind, Witnesses[Any]] = {
            POD: self._pods,
            REPLICA_SET: self._replica_sets,
            EVENT: self._warnings,
        }

    def endpoint(self, key: Key) -> Raw | None:
        return self._endpoints.get(key)

    def endpoints(self) -> list[Key]:
        return list(self._endpoints)

    def observed(self, key: Key, uid: str) -> Observed:
        """The children that the endpoint with this uid controls, and those that outlive endpoints and have its name; their
        pods, and the warnings about all of them."""
        own = {
            at: child
            for at, child in self._children.get(key, {}).items()
            if (child.owner.uid == uid if child.owner else not child.kind.owned)
        }
        deployments = {child.uid for child in own.values() if child.kind is DEPLOYMENT}
        sets = {each.uid: each.revision for each in self._replica_sets.of(key) if each.owner in deployments}
        newest = max(sets.values(), default=0)
        pods = [pod for pod in self._pods.of(key) if pod.owner in sets and not pod.going]
        about = {child.uid for child in own.values()} | {pod.uid for pod in pods} | set(sets)
        return Observed(
            own,
            pods=tuple(pod for pod in pods if sets[pod.owner] == newest),
            old_pods=tuple(pod for pod in pods if sets[pod.owner] != newest),
            warnings=tuple(warning for warning in self._warnings.of(key) if warning.about in about),
        )

    def absorb(self, kind: Kind, raw: Raw) -> set[Key]:
        """Take in an object's state; the keys of the endpoints that it changes something for."""
        if kind in self._witnesses:
            return self._witnesses[kind].absorb(raw)
        metadata = raw["metadata"]
        if int(metadata["resourceVersion"]) <= self._gone.get(kind, {}).get(metadata["uid"], -1):
            return set()
        return self._absorb_endpoint(raw) if kind is ENDPOINT else self._absorb_child(kind, raw)

    def forget(self, kind: Kind, raw: Raw) -> set[Key]:
        """Take in a deletion (or that the object has left our label selector); the keys that it concerns."""
        if kind in self._witnesses:
            return self._witnesses[kind].forget(raw)
        metadata = raw["metadata"]
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        self._gone.setdefault(kind, {})[uid] = version
        if kind is ENDPOINT:
            key = (metadata["namespace"], metadata["name"])
            if key in self._endpoints and self._endpoints[key]["metadata"]["uid"] == uid:
                del self._endpoints[key]
                return {key} | self._claim(key)
            return {key}
        home = self._home.get(uid)
        if home is not None and self._children[home][(kind, metadata["name"])].version <= version:
            self._drop(kind, metadata["name"], uid)
        return self._and_claims(kind, home, _endpoint_of(Child.of(kind, raw), raw))

    def drop_others(self, kind: Kind, alive: Collection[str], version: int) -> set[Key]:
        """Drop what a complete list as of resourceVersion `version` lacks: it has the uids `alive`, and has been absorbed.

        Returns the keys of the endpoints that something changed for.
        """
        if kind in self._witnesses:
            return self._witnesses[kind].drop_others(alive, version)
        changed: set[Key] = set()
        if kind is ENDPOINT:
            for key, known in list(self._endpoints.items()):
                if (
                    known["metadata"]["uid"] not in alive
                    and int(known["metadata"]["resourceVersion"]) <= version
                ):
                    del self._endpoints[key]
                    changed |= {key} | self._claim(key)
        else:
            for key, children in list(self._children.items()):
                for child in list(children.values()):
                    if child.kind is kind and child.uid not in alive and child.version <= version:
                        self._drop(kind, child.name, child.uid)
                        changed |= self._and_claims(kind, key)
        gone = self._gone.get(kind, {})
        self._gone[kind] = {uid: at for uid, at in gone.items() if at > version}
        return changed

    def put(self, key: Key, child: Child) -> None:
        """Take in a child as the API server has just returned it."""
        known = self._known(child)
        if known is None or known.version <= child.version:
            self._file(key, child)

    def deleted(self, child: Child) -> None:
        """Take in that a child is gone, as the API server has just said."""
        known = self._known(child) or child
        self._gone.setdefault(child.kind, {})[child.uid] = known.version
        if child.uid in self._home:
            self._drop(child.kind, child.name, child.uid)

    def _absorb_endpoint(self, raw: Raw) -> set[Key]:
        metadata = raw["metadata"]
        key = (metadata["namespace"], metadata["name"])
        known = self._endpoints.get(key)
        if known is not None and int(known["metadata"]["resourceVersion"]) >= int(
            metadata["resourceVersion"]
        ):
            return set()
        # Other managers' field sets are of no use here, and a good part of the size.
        kept = {name: value for name, value in metadata.items() if name != "managedFields"}
        self._endpoints[key] = {**raw, "metadata": kept}
        return {key} | self._claim(key)

    def _named(self, event: Raw) -> set[Key]:
        """The endpoints that an Event may concern: a child's own, or, as names of pods begin with the endpoint's, by name."""
        about = event["involvedObject"]
        if about.get("kind") == ENDPOINT.name:  # our own
            return set()
        home = self._home.get(about.get("uid", ""))
        if home is not None:
            return {home}
        namespace, parts = about.get("namespace", ""), about.get("name", "").split("-")
        names = ("-".join(parts[:count]) for count in range(1, len(parts) + 1))
        return {(namespace, name) for name in names if (namespace, name) in self._endpoints}

    def _absorb_child(self, kind: Kind, raw: Raw) -> set[Key]:
        child = Child.of(kind, raw)
        known, before, key = self._known(child), self._home.get(child.uid), _endpoint_of(child, raw)
        newest = known or self._children.get(key or before or ("", ""), {}).get((kind, child.name))
        if (
            newest is not None and newest.version >= child.version
        ):  # of an earlier object of that name, perhaps
            return self._and_claims(kind, key) - {key} if key else set()
        if known is not None and known.applied_hash == child.applied_hash:
            child = replace(child, refused=known.refused)
        if key is not None:
            self._file(key, child)
        elif before is not None:
            self._drop(kind, child.name, child.uid)
        return self._and_claims(kind, before, key)

    def _claim(self, key: Key) -> set[Key]:
        """Note what an endpoint asks for and has; the others that this changes something for."""
        resource = self._endpoints.get(key)
        uid = resource["metadata"]["uid"] if resource is not None else ""
        ingresses = [
            child
            for child in self._children.get(key, {}).values()
            if child.kind is INGRESS and child.owner and child.owner.uid == uid
        ]
        return self.claims.note(key, resource, ingresses)

    def _and_claims(self, kind: Kind, *keys: Key | None) -> set[Key]:
        """The endpoints of a child that has changed, and those for which it gave something up or took it."""
        concerned = {key for key in keys if key is not None}
        if kind is INGRESS:
            concerned |= {other for key in list(concerned) for other in self._claim(key)}
        return concerned

    def _known(self, child: Child) -> Child | None:
        home = self._home.get(child.uid)
        return None if home is None else self._children[home][(child.kind, child.name)]

    def _file(self, key: Key, child: Child) -> None:
        """Under its key, instead of where it was and of another object of its name."""
        if child.uid in self._home:
            self._drop(child.kind, child.name, child.uid)
        another = self._children.get(key, {}).get((child.kind, child.name))
        if another is not None:
            self._drop(another.kind, another.name, another.uid)
        self._children.setdefault(key, {})[(child.kind, child.name)] = child
        self._home[child.uid] = key

    def _drop(self, kind: Kind, name: str, uid: str) -> None:
        key = self._home.pop(uid)
        children = self._children[key]
        del children[(kind, name)]
        if not children:
            del self._children[key]


def _labelled(raw: Raw) -> set[Key]:
    key = label_of(raw)
    return set() if key is None else {key}


def _endpoint_of(child: Child, raw: Raw) -> Key | None:
    """The endpoint that a child belongs to: by its owner, which nobody edits by accident, or else by its label."""
    if child.owner is not None and child.owner.kind == ENDPOINT.name:
        return child.namespace, child.owner.name
    label = (raw["metadata"].get("labels") or {}).get(ENDPOINT_LABEL)
    return None if label is None else (child.namespace, label)
