"""Carrying out a plan: the writes to an endpoint's children."""

import asyncio

from whisper_operator.apply import plan as planning
from whisper_operator.apply.outcome import Outcome
from whisper_operator.apply.plan import Plan
from whisper_operator.informer.access import MISSING, Access, Obstacle
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import NoSuchKind, Refused, Retry
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    CHILDREN,
    ENDPOINT,
    FIELD_MANAGER,
    INGRESS,
    MANAGED_BY_LABEL,
    Kind,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child

LAST = (AUTOSCALER, INGRESS)
"""The kinds whose objects name others."""


class Applier:
    """Writes go to the API server, and their answers into the cache."""

    def __init__(self, api: Api, cache: Cache, access: Access) -> None:
        self._api = api
        self._cache = cache
        self._access = access

    async def apply(self, resource: Raw, plan: Plan) -> Outcome:
        """Make the planned writes. Looks before it creates: an object that is not ours is never touched, and while one is in
        the way nothing else is written either, lest traffic be led to it. Raises Retry."""
        waiting = [child.name for child in plan.wait]
        found = await asyncio.gather(*(self._in_the_way(resource, manifest) for manifest in plan.create))
        looked = list(zip(plan.create, found, strict=True))
        taken = tuple(manifest for manifest, what in looked if what == "foreign")
        if taken:
            return Outcome(names_taken=taken)
        if "ours" in found:
            raise Retry("a child was there that no watch had reported")
        waiting += [manifest.name for manifest, what in looked if what == "going"]
        missing: list[Kind] = []
        refusals: list[tuple[str, str]] = []
        free = [(manifest, None) for manifest, what in looked if what == "nothing"]
        inherited = [(manifest, what) for manifest, what in looked if isinstance(what, Child)]
        for scaler in plan.delete:
            if scaler.kind is AUTOSCALER:  # or it would undo the number of replicas that is written now
                await self._delete(scaler, refusals)
        for stage in _stages([*free, *inherited, *plan.update]):
            failures = await asyncio.gather(
                *(self._apply(manifest, child) for manifest, child in stage), return_exceptions=True
            )
            for (manifest, _), failure in zip(stage, failures, strict=True):
                if isinstance(failure, NoSuchKind):
                    self._access.note(manifest.kind, manifest.namespace, Obstacle(MISSING))
                    if not manifest.kind.optional:
                        missing.append(manifest.kind)
                elif isinstance(failure, Refused):
                    refusals.append((f"{manifest.kind.name} {manifest.name}", failure.message))
                elif failure is not None:
                    raise failure
            if missing or refusals:
                break  # what names them has to wait for them
        for unwanted in _in_order_of_deletion(plan.delete) if not missing and not refusals else ():
            await self._delete(unwanted, refusals)
        return Outcome((), tuple(missing), tuple(refusals), tuple(waiting))

    async def _delete(self, child: Child, refusals: list[tuple[str, str]]) -> None:
        try:
            held = await self._api.delete(child.kind, child.namespace, child.name, child.uid)
        except Refused as error:
            refusals.append((f"deletion of {child.kind.name} {child.name}", error.message))
            return
        # Else the next pass might come before the watch's news, and delete it once more.
        if held is None:
            self._cache.deleted(child)
        else:
            self._cache.upsert(child.kind, held)

    async def _in_the_way(self, resource: Raw, manifest: Manifest) -> str | Child:
        """What has the name of a child that the cache lacks: nothing, ours, going (it will vanish) or foreign; or what an earlier
        endpoint has left, that is this one's from now on."""
        raw = await self._api.get(manifest.kind, manifest.namespace, manifest.name)
        if raw is None:
            return "nothing"
        child = Child.of(manifest.kind, raw)
        metadata = resource["metadata"]
        if not manifest.kind.owned and child.owner is None:
            # What outlives endpoints is whoever's wants it next, if only the operator made it.
            if (raw["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) != FIELD_MANAGER:
                return "foreign"
            return child
        if child.owner is None or child.owner.kind != ENDPOINT.name or child.owner.name != metadata["name"]:
            return "foreign"
        if child.deleting or child.owner.uid != metadata["uid"]:
            return "going"
        self._cache.upsert(manifest.kind, raw)
        return "ours"

    async def _apply(self, manifest: Manifest, child: Child | None) -> None:
        body = planning.applied(manifest, uid=child.uid if child else None)
        if child is not None and planning.reshaped(manifest, child):
            await self._api.put_spec_right(manifest.kind, body)
        answer = await self._api.apply(manifest.kind, body, force=child is not None)
        self._access.found(manifest.kind, manifest.namespace)
        live = planning.after_apply(manifest, Child.of(manifest.kind, answer))
        self._cache.applied(manifest.kind, answer, live.refused)


def _stages(writes: list[tuple[Manifest, Child | None]]) -> list[list[tuple[Manifest, Child | None]]]:
    """Writes of one stage go out together, a stage after the other: nothing is named before it exists."""
    stages = [
        [write for write in writes if write[0].kind not in LAST],
        [write for write in writes if write[0].kind in LAST],
    ]
    return [stage for stage in stages if stage]


def _in_order_of_deletion(children: tuple[Child, ...]) -> list[Child]:
    """What names another object goes before it."""
    rest = [child for child in children if child.kind is not AUTOSCALER]
    return sorted(rest, key=lambda child: CHILDREN.index(child.kind), reverse=True)
