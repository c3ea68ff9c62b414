"""All that is known of the cluster, by endpoint: the only place that reconciling reads from.

Watch events alone are not enough: what is deleted while a watch is broken is never reported. So every kind is listed as
well, and what a list lacks is dropped. Which of two states of an object is the newer one is decided in `newest`.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from whisper_operator.claims import Claim, Claims
from whisper_operator.informer.access import FORBIDDEN, Access
from whisper_operator.informer.newest import Objects
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    CHILDREN,
    DEPLOYMENT,
    ENDPOINT,
    EVENT,
    INGRESS,
    PAUSED_ANNOTATION,
    POD,
    REPLICA_SET,
    Kind,
)
from whisper_operator.kube.objects import Key, Raw
from whisper_operator.observed.children import Child, Observed, controller
from whisper_operator.observed.pods import Pod, ReplicaSet, label_of
from whisper_operator.observed.warnings import Warning
from whisper_operator.policy.amounts import running
from whisper_operator.policy.ledger import Ledger
from whisper_operator.rollouts.train import Train

logger = logging.getLogger(__name__)

OPTIONAL = frozenset(kind for kind in CHILDREN if kind.optional)
LONGEST_WORD = 100
"""Characters kept of an annotation's value, of which a few mean something."""


class Cache:
    """Not thread-safe: it lives on the event loop."""

    def __init__(
        self,
        access: Access | None = None,
        wake: Callable[[Key], None] = lambda key: None,
    ) -> None:
        """`wake` is called with each endpoint that news of another's changed something for: of a host that it may have now."""
        self._access = access or Access()
        self._wake = wake
        self._endpoints = Objects[Raw](_cut_down, lambda raw: [_key(raw)])
        self._children = {kind: Objects[Child](_child_of(kind), _endpoint_of) for kind in CHILDREN}
        self._pods = Objects[Pod](lambda raw, _: Pod.of(raw), _labelled)
        self._replica_sets = Objects[ReplicaSet](lambda raw, _: ReplicaSet.of(raw), _labelled)
        self._warnings = Objects[Warning](lambda raw, _: Warning.of(raw), self._concerned)
        self._objects: dict[Kind, Objects[Any]] = {
            ENDPOINT: self._endpoints,
            **self._children,
            POD: self._pods,
            REPLICA_SET: self._replica_sets,
            EVENT: self._warnings,
        }
        self._claims = Claims()
        self._refused: set[Key] = set()
        """Endpoints that the policy lets have nothing more than they have."""
        self.train = Train(wake)
        """Of the upgrades of all endpoints."""
        self.ledger = Ledger(wake)
        """Of all that runs under endpoints' names, and of what they ask for."""

    def endpoint(self, key: Key) -> Raw | None:
        """The endpoint as last seen."""
        return next(iter(self._endpoints.of(key)), None)

    def endpoints(self) -> list[Key]:
        """The key of every endpoint."""
        return self._endpoints.filed()

    def claimed_by_others(self, key: Key) -> list[tuple[Claim, Key]]:
        """What an endpoint asks for that another one has, and which."""
        return self._claims.held_against(key)

    def refuse(self, key: Key, *, refused: bool) -> None:
        """Take in whether the policy lets an endpoint have what it asks for."""
        if refused != (key in self._refused):
            (self._refused.add if refused else self._refused.discard)(key)
            self._note_claims(ENDPOINT, key)

    def orphans(self) -> list[Key]:
        """Names under which something runs and takes room, and no endpoint stands behind it."""
        known = {key for kind in (DEPLOYMENT, INGRESS) for key in self._children[kind].filed()}
        made = (key for key in known if self._made(DEPLOYMENT, key) or self._made(INGRESS, key))
        return [key for key in made if not self._endpoints.of(key)]

    def observed(self, resource: Raw) -> Observed:
        """An endpoint's children, their pods, and the warnings about all of them.

        Children are what it controls, what outlives endpoints and has its name, and what the operator made under that name and
        has lost its owner: a deletion that orphans leaves such.
        """
        key, uid = _key(resource), resource["metadata"]["uid"]
        own = {
            (kind, child.name): child
            for kind, objects in self._children.items()
            for child in objects.of(key)
            if _is_of(child, uid)
        }
        deployments = {child.uid for child in own.values() if child.kind is DEPLOYMENT}
        sets = {each.uid: each.revision for each in self._replica_sets.of(key) if each.owner in deployments}
        newest = max(sets.values(), default=0)
        pods = [pod for pod in self._pods.of(key) if pod.owner in sets and not pod.going]
        about = {child.uid for child in own.values()} | {pod.uid for pod in pods} | set(sets)
        return Observed(
            own,
            optional=frozenset(kind for kind in OPTIONAL if not self._access.obstacle(kind, key[0])),
            unreadable=self._unreadable(key[0]),
            pods=tuple(pod for pod in pods if sets[pod.owner] == newest),
            old_pods=tuple(pod for pod in pods if sets[pod.owner] != newest),
            warnings=tuple(warning for warning in self._warnings.of(key) if warning.about in about),
        )

    def upsert(self, kind: Kind, raw: Raw) -> set[Key]:
        """Take in an object's state; the keys of the endpoints that it changes something for."""
        changed = self._objects[kind].upsert(raw)
        self._note(kind, changed.union(_endpoint_of(raw) if kind is INGRESS else ()))
        return changed

    def delete(self, kind: Kind, raw: Raw) -> set[Key]:
        """Take in a deletion (or that the object has left our label selector); the keys that it concerns."""
        changed = self._objects[kind].delete(raw)
        self._note(kind, changed)
        return changed

    def replace(
        self, kind: Kind, alive: Collection[str], version: int, namespace: str | None = None
    ) -> set[Key]:
        """Drop what a complete list as of resourceVersion `version` lacks: it has the uids `alive`, which were upserted before.

        `namespace`: the only one that was listed. Returns the keys of the endpoints that something changed for.
        """
        changed = self._objects[kind].replace(alive, version, namespace)
        self._note(kind, changed)
        return changed

    def applied(self, kind: Kind, raw: Raw, refused: frozenset[str]) -> None:
        """Take in the answer to our own apply, and the paths of declared fields that admission took out of it."""
        self.upsert(kind, raw)
        of_answer = Child.of(kind, raw)
        self._children[kind].amend(
            of_answer.uid,
            lambda held: (
                replace(held, refused=refused) if held.applied_hash == of_answer.applied_hash else held
            ),
        )

    def deleted(self, child: Child) -> None:
        """Take in that a child is gone, as the API server has just said."""
        keys = self._children[child.kind].keys_of(child.uid)
        self._children[child.kind].delete_uid(child.uid)
        self._note(child.kind, keys)

    def _unreadable(self, namespace: str) -> dict[Kind, str]:
        found = ((kind, self._access.obstacle(kind, namespace)) for kind in self._objects)
        return {kind: each.message for kind, each in found if each and each.reason == FORBIDDEN}

    def _note(self, kind: Kind, keys: Iterable[Key]) -> None:
        """Work out what follows for these endpoints. One that this can't be done for keeps nobody from news, itself included."""
        for key in keys:
            for note in (self._note_claims, self._note_upgrade, self._note_running):
                try:
                    note(kind, key)
                except Exception:
                    logger.exception(
                        "What follows from the news of a %s can't be worked out, by a fault of the operator's own",
                        *(kind.name,),
                        extra={"endpoint": key},
                    )

    def _note_upgrade(self, kind: Kind, key: Key) -> None:
        if kind in (ENDPOINT, DEPLOYMENT):
            resource = self.endpoint(key)
            uid = resource["metadata"]["uid"] if resource is not None else ""
            deployments = self._children[DEPLOYMENT].of(key)
            self.train.note(key, resource, next((each for each in deployments if _is_of(each, uid)), None))

    def _note_running(self, kind: Kind, key: Key) -> None:
        if kind in (DEPLOYMENT, AUTOSCALER, INGRESS, POD):
            deployments, scalers, ingresses = (
                self._made(of, key) for of in (DEPLOYMENT, AUTOSCALER, INGRESS)
            )
            self.ledger.hold(key, running(deployments, scalers, ingresses, self._pods.of(key)))

    def _made(self, kind: Kind, key: Key) -> list[Child]:
        """What the operator has made under an endpoint's name, whoever it belongs to by now: what of an earlier endpoint of that
        name is still there, and what a deletion that orphans has left."""
        return [child for child in self._children[kind].of(key) if child.made_by_operator]

    def _note_claims(self, kind: Kind, key: Key) -> None:
        """Note what an endpoint asks for and has, if that may have changed, and wake the others that this changes something for:
        whoever brought the news, as it is news only once."""
        if kind not in (ENDPOINT, INGRESS):
            return
        resource = self.endpoint(key)
        if resource is None:
            self._refused.discard(key)
        uid = resource["metadata"]["uid"] if resource is not None else ""
        ingresses = self._children[INGRESS].of(key)
        own = [each for each in ingresses if each.made_by_operator or _is_of(each, uid)]
        for other in self._claims.note(key, resource, own, refused=key in self._refused):
            self._wake(other)

    def concerns(self, event: Raw) -> bool:
        """Whether an Event may concern an endpoint, or did, so that its end is to be seen as well."""
        return bool(self._concerned(event) or self._warnings.keys_of(event["metadata"]["uid"]))

    def _concerned(self, event: Raw) -> Collection[Key]:
        """The endpoints that an Event may concern: those of the child that it is about, or else by the name, as those of children
        and pods begin with the endpoint's."""
        about = event["involvedObject"]
        if about.get("kind") == ENDPOINT.name:  # our own
            return ()
        owners = {key for objects in self._children.values() for key in objects.keys_of(about.get("uid", ""))}
        namespace, parts = about.get("namespace", ""), about.get("name", "").split("-")
        names = ("-".join(parts[:count]) for count in range(1, len(parts) + 1))
        return sorted(owners | {(namespace, name) for name in names if self._endpoints.of((namespace, name))})


def _key(raw: Raw) -> Key:
    return raw["metadata"]["namespace"], raw["metadata"]["name"]


def _is_of(child: Child, uid: str) -> bool:
    """Whether what is filed under an endpoint's name is that very one's."""
    if child.owner is not None:
        return child.owner.uid == uid
    return child.made_by_operator or not child.kind.owned


KEPT_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "generation"),
    *("creationTimestamp", "deletionTimestamp"),
)


def _cut_down(raw: Raw, _: Raw | None) -> Raw:
    """Of an endpoint's metadata, what is looked at: field sets of managers, and whatever else its users write there, may be a
    hundred times as large as all of the rest, and every replica of the operator has it in memory."""
    metadata = raw["metadata"]
    kept = {name: metadata[name] for name in KEPT_METADATA if name in metadata}
    paused = (metadata.get("annotations") or {}).get(PAUSED_ANNOTATION)
    if paused is not None:
        kept["annotations"] = {PAUSED_ANNOTATION: str(paused)[:LONGEST_WORD]}
    return {**raw, "metadata": kept}


def _child_of(kind: Kind) -> Callable[[Raw, Child | None], Child]:
    def keep(raw: Raw, before: Child | None) -> Child:
        child = Child.of(kind, raw)
        if before is not None and before.applied_hash == child.applied_hash:
            return replace(child, refused=before.refused)
        return child

    return keep


def _endpoint_of(raw: Raw) -> list[Key]:
    """The endpoint that a child belongs to: by its owner, which nobody edits by accident, or else by its label."""
    owner = controller(raw)
    if owner is not None and owner.kind == ENDPOINT.name:
        return [(raw["metadata"]["namespace"], owner.name)]
    return _labelled(raw)


def _labelled(raw: Raw) -> list[Key]:
    key = label_of(raw)
    return [] if key is None else [key]
