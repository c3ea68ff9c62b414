"""The cluster as the main flow sees it: what is known of an endpoint, and carrying out what was planned for it."""

import asyncio
import logging
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from whisper_operator.apply import plan as drift
from whisper_operator.apply.outcome import Outcome
from whisper_operator.claims import Claim
from whisper_operator.informer.cache import Store
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import NoSuchKind, Refused, Retry
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    CHILDREN,
    ENDPOINT,
    ENDPOINT_LABEL,
    EVENT,
    FIELD_MANAGER,
    INGRESS,
    MANAGED_BY_LABEL,
    OURS,
    WARNINGS,
    WITNESSES,
    Kind,
)
from whisper_operator.kube.objects import Key, Raw
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed
from whisper_operator.status.status import Report
from whisper_operator.status.throttle import Pace

OPTIONAL = frozenset(kind for kind in CHILDREN if kind.optional)
LAST = (AUTOSCALER, INGRESS)
"""The kinds whose objects name others."""

logger = logging.getLogger(__name__)


class Cluster:
    """Reads come from the store; writes go to the API server, and their answers into the store."""

    def __init__(self, api: Api, store: Store, watches: Watches, namespaces: Collection[str] = ()) -> None:
        """`namespaces`: the only ones that it sees; empty: all."""
        self._api = api
        self._namespaces: Collection[str | None] = namespaces or [None]
        self._store = store
        self._watches = watches
        self._lacking: set[Kind] = set()
        self._pace = Pace()
        self.kind_appeared = asyncio.Event()
        """Set when a kind that was missing turns out to be there."""

    def cached(self, key: Key) -> Raw | None:
        """The endpoint as last seen."""
        return self._store.endpoint(key)

    def observe(self, resource: Raw) -> Observed:
        """Its live children, their pods and the warnings about them, as last seen."""
        metadata = resource["metadata"]
        seen = self._store.observed((metadata["namespace"], metadata["name"]), metadata["uid"])
        return replace(seen, optional=OPTIONAL - self._lacking)

    def claimed_by_others(self, resource: Raw) -> list[tuple[Claim, Key]]:
        """What it asks for that another endpoint has, and which one."""
        return self._store.claims.held_against(
            (resource["metadata"]["namespace"], resource["metadata"]["name"])
        )

    async def list_everything(self) -> set[Key]:
        """List every kind into the store; the endpoints that something changed for. Raises Retry, Refused."""
        changed: set[Key] = set()
        for kind in (ENDPOINT, *CHILDREN, *WITNESSES):
            labels = None if kind in (ENDPOINT, EVENT) else OURS

            def take(raw: Raw, kind: Kind = kind) -> tuple[int, str]:
                try:
                    changed.update(self._store.absorb(kind, raw))
                except Exception:  # of one object, which must not be everybody's trouble
                    where = (raw["metadata"].get("namespace"), raw["metadata"]["name"])
                    logger.exception("%s %s/%s can't be read, and counts as unchanged", kind.name, *where)
                return int(raw["metadata"]["resourceVersion"]), raw["metadata"]["uid"]

            lists = [
                await self._api.list_all(kind, namespace, labels, WARNINGS if kind is EVENT else None, take)
                for namespace in self._namespaces
            ]
            there = [found for found in lists if found is not None]
            self._note(kind, there=bool(there))
            if not there and kind is ENDPOINT:
                raise Retry(f"the cluster has no {ENDPOINT.qualified}: apply crds/whisperendpoints.yaml")
            alive = [each for found, _ in there for each in found]
            # As of the oldest list: what another holds beyond that is no reason to drop anything.
            version = min((at for _, at in there), default=sys.maxsize)
            changed.update(self._store.drop_others(kind, {uid for _, uid in alive}, version))
            self._watches.listed(kind, alive)
        return changed

    async def carry_out(self, resource: Raw, plan: drift.Plan) -> Outcome:
        """Make the planned writes. Looks before it creates: an object that is not ours is never touched, and while one is in
        the way nothing else is written either, lest traffic be led to it. Raises Retry."""
        waiting = [child.name for child in plan.wait]
        found = await asyncio.gather(*(self._in_the_way(resource, manifest) for manifest in plan.create))
        taken = tuple(
            manifest for manifest, what in zip(plan.create, found, strict=True) if what == "foreign"
        )
        if taken:
            return Outcome(names_taken=taken)
        if "ours" in found:
            raise Retry("a child was there that no watch had reported")
        waiting += [
            manifest.name for manifest, what in zip(plan.create, found, strict=True) if what == "going"
        ]
        missing: list[Kind] = []
        refusals: list[tuple[str, str]] = []
        free = [
            (manifest, None) for manifest, what in zip(plan.create, found, strict=True) if what == "nothing"
        ]
        for scaler in plan.delete:
            if scaler.kind is AUTOSCALER:  # or it would undo the number of replicas that is written now
                await self._delete(scaler, refusals)
        for stage in _stages([*free, *plan.update]):
            failures = await asyncio.gather(
                *(self._apply(manifest, child) for manifest, child in stage), return_exceptions=True
            )
            for (manifest, _), failure in zip(stage, failures, strict=True):
                if isinstance(failure, NoSuchKind):
                    self._note(manifest.kind, there=False)
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
            self._store.deleted(child)
        else:
            self._store.absorb(child.kind, held)

    async def report(
        self, resource: Raw, report: Report, now: datetime, *, pressed: bool = False
    ) -> float | None:
        """Write the status if it changed, and publish an Event for each event. Raises Retry.

        Returns in how many seconds it may be written, where that was too often lately or `pressed` says that others come first.
        """
        if report.patch:
            metadata = resource["metadata"]
            generation = metadata.get("generation", 0)
            wait = self._pace.wait(metadata["uid"], generation, time.monotonic(), pressed=pressed)
            if wait > 0:
                return wait
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": report.patch}
            try:
                answer = await self._api.patch_status(ENDPOINT, metadata["namespace"], metadata["name"], body)
            except Refused as error:
                if error.status == 404:
                    # Deleted, whether or not a watch has said so: there is nobody to report to.
                    self._store.forget(ENDPOINT, resource)
                    return None
                raise
            self._store.absorb(ENDPOINT, answer)
        for event in report.events:
            try:
                await self._api.create_event(_event(resource, event, now))
            except (Refused, Retry) as reason:  # Events are a courtesy: the status says the same.
                logger.info("Could not publish an event: %s", reason)
        return None

    async def _in_the_way(self, resource: Raw, manifest: Manifest) -> str:
        """What has the name of a child that the store lacks: nothing, ours, going (it will vanish) or foreign."""
        raw = await self._api.get(manifest.kind, manifest.namespace, manifest.name)
        if raw is None:
            return "nothing"
        child = Child.of(manifest.kind, raw)
        metadata = resource["metadata"]
        if not manifest.kind.owned and child.owner is None:
            # What outlives endpoints is whoever's wants it next, if only the operator made it.
            if (raw["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) != FIELD_MANAGER:
                return "foreign"
            self._store.put((metadata["namespace"], metadata["name"]), child)
            return "ours"
        if child.owner is None or child.owner.kind != ENDPOINT.name or child.owner.name != metadata["name"]:
            return "foreign"
        if child.deleting or child.owner.uid != metadata["uid"]:
            return "going"
        self._store.put((metadata["namespace"], metadata["name"]), child)
        return "ours"

    def _note(self, kind: Kind, *, there: bool) -> None:
        if not there:
            if kind not in self._lacking:
                logger.info("The cluster has no %s", kind.qualified)
            self._lacking.add(kind)
        elif kind in self._lacking:
            self._lacking.remove(kind)
            self.kind_appeared.set()

    async def _apply(self, manifest: Manifest, child: Child | None) -> None:
        body = drift.applied(manifest, uid=child.uid if child else None)
        if child is not None and drift.reshaped(manifest, child):
            await self._api.put_spec_right(manifest.kind, body)
        answer = await self._api.apply(manifest.kind, body, force=child is not None)
        self._note(manifest.kind, there=True)
        live = drift.after_apply(manifest, Child.of(manifest.kind, answer))
        self._store.put((manifest.namespace, _endpoint_of(manifest)), live)


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


def _endpoint_of(manifest: Manifest) -> str:
    return str(manifest.body["metadata"]["labels"][ENDPOINT_LABEL])


def _event(resource: Raw, event: Mapping[str, str], now: datetime) -> dict[str, Any]:
    metadata = resource["metadata"]
    stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "metadata": {"namespace": metadata["namespace"], "generateName": f"{metadata['name']}."},
        "involvedObject": {
            "apiVersion": ENDPOINT.api_version,
            "kind": ENDPOINT.name,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": event["type"],
        "reason": event["reason"],
        "message": event["message"][:1024],
        "source": {"component": "whisper-operator"},
        "reportingComponent": "whisper-operator",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
