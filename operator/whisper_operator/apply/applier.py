"""Carrying out a plan: the writes to an endpoint's children, in their order. What can be carried out is, whatever else can't."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from whisper_operator.apply import plan as planning
from whisper_operator.apply.fights import ITSELF, REPLICAS, Fights
from whisper_operator.apply.memory import remember
from whisper_operator.apply.outcome import LOOK_AGAIN_SECONDS, Outcome
from whisper_operator.apply.plan import Plan
from whisper_operator.apply.writes import (
    GoingError,
    NameTakenError,
    Writes,
    made_for,
    scaled_for,
)
from whisper_operator.informer.access import Access
from whisper_operator.informer.cache import Cache
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import NoSuchKind, Refused, Retry
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    BACKEND_CONFIG,
    CHILDREN,
    COMPUTE_ADDRESS,
    DEPLOYMENT,
    FRONTEND_CONFIG,
    INGRESS,
    MANAGED_CERTIFICATE,
    SERVICE,
    Kind,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child

NAMES = {
    AUTOSCALER: frozenset({DEPLOYMENT}),
    INGRESS: frozenset(
        {COMPUTE_ADDRESS, BACKEND_CONFIG, FRONTEND_CONFIG, SERVICE, DEPLOYMENT, MANAGED_CERTIFICATE}
    ),
}
"""Which kinds' objects name objects of which others, directly or by way of another: nothing is named before it exists, nor
deleted while it is named."""

Write = tuple[Manifest, Child | None]

logger = logging.getLogger(__name__)


@dataclass
class _Tally:
    """What came of the writes so far."""

    names_taken: list[Manifest] = field(default_factory=list)
    missing_kinds: list[Kind] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    delays: list[tuple[str, str]] = field(default_factory=list)
    retry_after: float = 0.0
    fault: Exception | None = None
    absent: set[Kind] = field(default_factory=set)
    """Kinds of which a wanted object is not there."""
    behind: set[Kind] = field(default_factory=set)
    """Kinds of which an object still is what it was, and names what it named."""

    def failed(self, what: str, failure: BaseException) -> None:
        if isinstance(failure, Refused):
            self.refusals.append((what, failure.message))
        elif isinstance(failure, Retry):
            self.delays.append((what, str(failure)))
            self.retry_after = max(self.retry_after, failure.after)
        elif isinstance(failure, Exception):
            logger.error("Writing %s failed, by a fault of the operator's own", what, exc_info=failure)
            words = f"a fault of the operator's own ({type(failure).__name__}: {failure}), of which its log has the details"
            self.delays.append((what, words))
            self.fault = failure
        else:
            raise failure


class Applier:
    """Writes go to the API server, and their answers into the cache."""

    def __init__(self, api: Api, cache: Cache, access: Access) -> None:
        self._access = access
        self._fights = Fights()
        self._writes = Writes(api, cache, access, self._fights)
        self._delayed_since: dict[str, float] = {}
        """By the uid of the endpoint."""

    async def apply(self, resource: Raw, plan: Plan) -> Outcome:
        """Make the planned writes. An object that is not the endpoint's is never touched."""
        tally = _Tally(
            waiting=[child.name for child in plan.wait], absent={child.kind for child in plan.wait}
        )
        self._look(resource, plan)
        await self._scale(resource, plan.scale, tally)
        for scaler in plan.delete:
            if scaler.kind is AUTOSCALER:  # or it would undo the number of replicas that is written now
                await self._delete(scaler, tally)
        due = self._due(resource, plan, tally)
        await self._write(resource, [write for write in due if write[0].kind not in NAMES], tally)
        await self._write(resource, [write for write in due if write[0].kind in NAMES], tally)
        for child in _in_order_of_deletion(plan.delete):
            if not any(child.kind in NAMES[kind] for kind in tally.behind & NAMES.keys()):
                await self._delete(child, tally)
        for child, annotations in plan.annotate:
            await self._annotate(child, annotations, tally)
        return self._outcome(resource, tally)

    def _look(self, resource: Raw, plan: Plan) -> None:
        """Take in what somebody has changed, deleted or started, or may have."""
        found = {
            (child.uid, path)
            for manifest, child in plan.update
            for path in self._writes.lost(manifest, child)
        }
        found |= {(made_for(resource, manifest), ITSELF) for manifest in plan.create}
        found |= {
            (scaled_for(resource, child), REPLICAS)
            for child in (
                *(child for child, _ in plan.scale),
                *(child for _, child in plan.update),
            )
            if planning.runs(child)
        }
        self._fights.look(resource["metadata"]["uid"], found, time.monotonic())

    def _due(self, resource: Raw, plan: Plan, tally: _Tally) -> list[Write]:
        """The writes to make now: all but repairs of what is fought about."""
        due: list[Write] = []
        for manifest in plan.create:
            if self._waits(resource, made_for(resource, manifest), {ITSELF}):
                tally.absent.add(manifest.kind)
            else:
                due.append((manifest, None))
        for manifest, child in plan.update:
            lost = self._writes.lost(manifest, child)
            is_repair = planning.HASH_PATH in lost or not planning.is_new(manifest, child)
            if not is_repair or not self._waits(resource, child.uid, lost):
                due.append((manifest, child))
        return due

    def _waits(self, resource: Raw, child: str, lost: Collection[str]) -> bool:
        """Whether a repair is held back."""
        return self._fights.wait(resource["metadata"]["uid"], child, lost, time.monotonic()) > 0

    async def _write(self, resource: Raw, writes: list[Write], tally: _Tally) -> None:
        """All at once, but for those that would name what is not there."""
        ready = [write for write in writes if not NAMES.get(write[0].kind, frozenset()) & tally.absent]
        tally.behind |= {manifest.kind for manifest, _ in writes} - {manifest.kind for manifest, _ in ready}
        failures = await _all(
            self._writes.update(resource, manifest, child)
            if child is not None
            else self._writes.create(resource, manifest)
            for manifest, child in ready
        )
        for (manifest, child), failure in zip(ready, failures, strict=True):
            if failure is not None:
                self._note(manifest, child, failure, tally)
                if child is not None and isinstance(failure, Refused) and planning.is_suspended(resource):
                    await self._scale(resource, [(child, 0)] if child.kind is DEPLOYMENT else [], tally)

    def _note(self, manifest: Manifest, child: Child | None, failure: BaseException, tally: _Tally) -> None:
        (tally.absent if child is None else tally.behind).add(manifest.kind)
        if isinstance(failure, NameTakenError):
            tally.names_taken.append(manifest)
        elif isinstance(failure, GoingError):
            tally.waiting.append(manifest.name)
        elif isinstance(failure, NoSuchKind):
            self._access.missing(manifest.kind, manifest.namespace)
            if not manifest.kind.optional:
                tally.missing_kinds.append(manifest.kind)
        else:
            tally.failed(f"{manifest.kind.name} {manifest.name}", failure)

    async def _scale(self, resource: Raw, deployments: Iterable[tuple[Child, int]], tally: _Tally) -> None:
        for child, replicas in deployments:
            key = scaled_for(resource, child)
            if planning.runs(child) and not self._waits(resource, key, {REPLICAS}):
                for failure in await _all([self._writes.scale(resource, child, replicas)]):
                    if failure is not None:
                        what = "scaling" if replicas else "suspension"
                        tally.failed(f"{what} of {child.kind.name} {child.name}", failure)

    async def _delete(self, child: Child, tally: _Tally) -> None:
        for failure in await _all([self._writes.delete(child)]):
            if failure is not None:
                tally.behind.add(child.kind)
                tally.failed(f"deletion of {child.kind.name} {child.name}", failure)

    async def _annotate(self, child: Child, annotations: Mapping[str, str | None], tally: _Tally) -> None:
        for failure in await _all([self._writes.annotate(child, annotations)]):
            if isinstance(failure, Refused):  # nobody lacks anything for it, and the next look tries again
                logger.info("%s %s can't be annotated: %s", child.kind.name, child.name, failure.message)
            elif failure is not None:
                tally.failed(f"annotation of {child.kind.name} {child.name}", failure)

    def _outcome(self, resource: Raw, tally: _Tally) -> Outcome:
        endpoint, now = resource["metadata"]["uid"], time.monotonic()
        since = self._delayed_since.pop(endpoint, now)
        if tally.delays:
            remember(self._delayed_since, endpoint, since)
        repair_in = self._fights.next_look(endpoint, now)
        if repair_in is not None and tally.refusals:  # perhaps of that very repair, which is due from then on
            repair_in = max(repair_in, LOOK_AGAIN_SECONDS)
        return Outcome(
            names_taken=tuple(tally.names_taken),
            missing_kinds=tuple(tally.missing_kinds),
            refusals=tuple(tally.refusals),
            waiting=tuple(tally.waiting),
            fights=self._fights.of(endpoint),
            repair_in=repair_in,
            delays=tuple(tally.delays),
            delayed_for=now - since if tally.delays else 0.0,
            retry_after=tally.retry_after,
            fault=tally.fault,
        )


async def _all(writes: Iterable[Awaitable[None]]) -> list[BaseException | None]:
    """Make them at once; what became of each."""
    return list(await asyncio.gather(*writes, return_exceptions=True))


def _in_order_of_deletion(children: tuple[Child, ...]) -> list[Child]:
    """What names another object goes before it."""
    rest = [child for child in children if child.kind is not AUTOSCALER]
    return sorted(rest, key=lambda child: CHILDREN.index(child.kind), reverse=True)
