"""The writes to one child: made, put right, removed or scaled to nothing, each with a line in the log."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from whisper_operator.apply import plan as planning
from whisper_operator.apply.fights import ITSELF, REPLICAS, Fights
from whisper_operator.apply.memory import remember
from whisper_operator.apply.ownership import take_over
from whisper_operator.informer.access import Access
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Conflict, OutOfTime, Refused
from whisper_operator.kube.kinds import (
    ENDPOINT,
    ENDPOINT_LABEL,
    FIELD_MANAGER,
    MANAGED_BY_LABEL,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child

INVALID = 422

logger = logging.getLogger(__name__)


class NameTakenError(Exception):
    """An object that is not the endpoint's has the child's name."""


class GoingError(Exception):
    """An earlier object of that name is on its way out."""


class Writes:
    """Go to the API server, and their answers into the cache."""

    def __init__(self, api: Api, cache: Cache, access: Access, fights: Fights) -> None:
        self._api = api
        self._cache = cache
        self._access = access
        self._fights = fights
        self._declared: dict[str, str] = {}
        """By uid, the hash of what was declared when an object was last put right."""

    async def create(self, resource: Raw, manifest: Manifest) -> None:
        """Make a child that the cache lacks. An object that has its name after all is looked at: the endpoint's own is taken into
        the cache, to be put right, a foreign one is not touched. Raises NameTakenError, GoingError, Refused, Retry."""
        try:
            answer = await self._api.apply(manifest.kind, planning.applied(manifest), force=False)
        except Conflict:
            await self._inherit(resource, manifest)
            return
        self._took(manifest, answer)
        logger.info("Created %s", _what(manifest))
        self._repaired(resource, made_for(resource, manifest), manifest, {ITSELF: ""})

    async def update(self, resource: Raw, manifest: Manifest, child: Child) -> None:
        """Apply what is declared to a live child, and take back what is the operator's. Raises Refused, Retry."""
        lost = self.lost(manifest, child)
        editors, version = dict.fromkeys(lost, ""), manifest.expected_resource_version
        if lost:
            _, version = await self._take_back(manifest, child, version, editors)
        try:
            answer = await self._apply(manifest, child, version)
        except Refused as error:
            if error.status != INVALID:
                raise
            # Perhaps for what stands beside what we declare, whosever it is.
            any_taken, version = await self._take_back(manifest, child, version, editors, unowned=True)
            if not any_taken:
                raise
            answer = await self._apply(manifest, child, version)
        self._took(manifest, answer)
        self._note(resource, manifest, child, editors)

    async def delete(self, child: Child) -> None:
        """Delete that very object. Raises Refused, Retry."""
        held = await self._api.delete(child.kind, child.namespace, child.name, child.uid)
        logger.info("Removed %s, which is no longer wanted", _what(child))
        # Else the next pass might come before the watch's news, and delete it once more.
        if held is None:
            self._cache.deleted(child)
        else:
            self._cache.upsert(child.kind, held)

    async def scale(self, resource: Raw, child: Child, replicas: int) -> None:
        """Scale a Deployment, and leave it as it is otherwise. Raises Refused, Retry."""
        await self._api.scale(child.kind, child.namespace, child.name, child.uid, replicas)
        logger.info("Scaled %s to %s", _what(child), replicas or "nothing, as spec.suspend says")
        self._repaired(resource, scaled_for(resource, child), child, {REPLICAS: ""})

    async def annotate(self, child: Child, annotations: Mapping[str, str | None]) -> None:
        """Write down what is known of a child, and leave it as it is otherwise. Raises Refused, Retry."""
        self._cache.upsert(
            child.kind,
            await self._api.annotate(child.kind, child.namespace, child.name, child.uid, annotations),
        )
        logger.info("Annotated %s: %s", _what(child), ", ".join(annotations))

    def lost(self, manifest: Manifest, child: Child) -> frozenset[str]:
        """Paths of a child's fields that somebody has changed, its hash among them if it was put right before."""
        lost = planning.lost(manifest, child)
        if planning.is_new(manifest, child) and self._declared.get(child.uid) == planning.fingerprint(
            manifest
        ):
            return lost | {planning.HASH_PATH}
        return lost

    async def _inherit(self, resource: Raw, manifest: Manifest) -> None:
        raw = await self._api.get(manifest.kind, manifest.namespace, manifest.name)
        if raw is None:
            raise Conflict(f"{_what(manifest)} was there, and is gone")
        child, metadata = Child.of(manifest.kind, raw), resource["metadata"]
        if child.owner is None:
            if not _left_behind(child, raw, metadata["name"]):
                raise NameTakenError
        elif child.owner.kind != ENDPOINT.name or child.owner.name != metadata["name"]:
            raise NameTakenError
        elif child.deleting or child.owner.uid != metadata["uid"]:
            raise GoingError
        self._cache.upsert(manifest.kind, raw)
        if child.deleting:
            raise GoingError
        if child.owner is None and manifest.kind.owned:
            logger.info("Adopting %s, which carries the operator's marks and has no owner", _what(manifest))
        if not planning.differs(manifest, child):
            return
        if manifest.kind.owned:
            # What it should be is worked out anew, now that it is known: not all of that depends on the spec alone.
            raise Conflict(f"{_what(manifest)} was there, and had not been seen")
        await self.update(resource, manifest, child)

    async def _apply(self, manifest: Manifest, child: Child, version: int | None) -> dict[str, Any]:
        body = planning.applied(replace(manifest, expected_resource_version=version), uid=child.uid)
        try:
            return await self._api.apply(manifest.kind, body, force=True)
        except OutOfTime:
            # In this state and no other it may take longer. Not at once: somebody writes to a Deployment all the time.
            body = planning.applied(replace(manifest, expected_resource_version=child.version), uid=child.uid)
            return await self._api.apply(manifest.kind, body, force=True)

    async def _take_back(
        self,
        manifest: Manifest,
        child: Child,
        version: int | None,
        editors: dict[str, str],
        *,
        unowned: bool = False,
    ) -> tuple[bool, int | None]:
        """Write over to the operator what has to go with the next apply, and add to `editors` what was whose.

        Returns whether there was any, and the resourceVersion that the object is expected to have then, in place of `version`.
        """
        live = await self._api.get(manifest.kind, manifest.namespace, manifest.name)
        if live is None or live["metadata"]["uid"] != child.uid:
            raise Conflict(f"{_what(manifest)} is no longer the one that was seen")
        editors |= planning.editors(manifest, live["metadata"].get("managedFields") or ())
        takeover = take_over(manifest, live, unowned=unowned)
        if takeover is None:
            return False, version
        editors |= takeover.fields
        self._declared.pop(child.uid, None)  # as the hash goes by our own hand
        answer = await self._api.hand_over(manifest.kind, live, takeover.entries)
        seen = int(live["metadata"]["resourceVersion"])
        return True, int(answer["metadata"]["resourceVersion"]) if version == seen else version

    def _took(self, manifest: Manifest, answer: Mapping[str, Any]) -> None:
        self._access.found(manifest.kind, manifest.namespace)
        live = planning.after_apply(manifest, Child.of(manifest.kind, answer))
        self._cache.applied(manifest.kind, answer, live.refused)

    def _note(self, resource: Raw, manifest: Manifest, child: Child, editors: Mapping[str, str]) -> None:
        what = _what(manifest)
        changed = ", ".join(f"{path} ({who or 'removed'})" for path, who in sorted(editors.items()))
        if planning.is_new(manifest, child) and planning.HASH_PATH not in editors:
            logger.info("Updated %s%s", what, f", and took back {changed}" if changed else "")
        else:
            logger.info("Repaired %s: took back %s", what, changed)
        remember(self._declared, child.uid, planning.fingerprint(manifest))
        self._repaired(resource, child.uid, manifest, editors)

    def _repaired(self, resource: Raw, child: str, one: Manifest | Child, editors: Mapping[str, str]) -> None:
        self._fights.repaired(resource["metadata"]["uid"], child, _what(one), editors, time.monotonic())


def made_for(resource: Raw, manifest: Manifest) -> str:
    """What a child that somebody deleted and the one that is made in its place have in common: whose it is, and of which spec,
    as a change of that is answered at once."""
    return _of_spec(resource, _what(manifest))


def scaled_for(resource: Raw, child: Child) -> str:
    """By what the scalings of a Deployment by itself count, suspensions as a rule: not among the repairs of its number, and each
    spec's for themselves, as a spec that says so anew is carried out at once, whatever is fought about."""
    return _of_spec(resource, child.uid)


def _of_spec(resource: Raw, what: str) -> str:
    return f"{what} of generation {resource['metadata'].get('generation')}"


def _what(one: Manifest | Child) -> str:
    return f"{one.kind.name} {one.name}"


def _left_behind(child: Child, raw: Raw, endpoint: str) -> bool:
    """Whether an object without an owner is the operator's all the same: an address outlives its endpoint, and a deletion that
    orphans, or a backup that is restored, leaves the rest. Our labels alone say little: anybody may copy them."""
    labels = raw["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY_LABEL) != FIELD_MANAGER:
        return False
    if not child.kind.owned:
        return True
    return child.made_by_operator and labels.get(ENDPOINT_LABEL) == endpoint
