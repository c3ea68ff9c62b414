"""kopf's wiring. kopf keeps the watches alive; all it does here is tell the cache and put a key on the queue.

Only `on.event` is used: it writes nothing to the objects, where kopf's other handlers add annotations or finalizers. A finalizer
would keep an endpoint from being deleted while the operator is down.
"""

from collections.abc import Collection
from typing import Any, cast

import kopf

from whisper_operator.informer.access import WATCHED
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.gate import Gate
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.client import Api
from whisper_operator.kube.kinds import ENDPOINT, EVENT, OURS, WARNINGS, Kind
from whisper_operator.kube.objects import Key
from whisper_operator.workqueue import WorkQueue


def register(
    registry: kopf.OperatorRegistry,
    api: Api,
    gate: Gate,
    cache: Cache,
    queue: WorkQueue[Key],
    watches: Watches,
) -> None:
    """Watch every kind; an event about an endpoint, a child of one, or what tells of them wakes that endpoint's key."""

    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=api.server, aiohttp_session=api.session(gate))

    kopf.on.login(registry=registry)(login)
    for kind in WATCHED:
        kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)(
            _listener(kind, cache, queue, watches)
        )


def settings(namespaces: Collection[str]) -> kopf.OperatorSettings:
    """All but endpoints are watched by label, warnings by their type; nothing is posted or written by kopf itself.

    `namespaces`: the only ones that may be looked into; empty: all.
    """
    chosen = kopf.OperatorSettings()
    # What is in the cluster as a whole, such as its namespaces and CRDs, is nothing that a few namespaces give a right to see.
    chosen.scanning.disabled = bool(namespaces)
    for kind in WATCHED:
        if kind is EVENT:
            chosen.watching.field_selectors[kind.group, kind.plural] = WARNINGS
        elif kind is not ENDPOINT:
            chosen.watching.label_selectors[kind.group, kind.plural] = OURS
    # Waiting and trying again is the gate's.
    chosen.networking.error_backoffs = ()
    chosen.networking.request_timeout = None
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = _NoMemory()
    # The cheapest: it is never used either.
    chosen.persistence.progress_storage = kopf.StatusProgressStorage()
    # Each object until its task ends: this is what decides how much memory a burst takes.
    chosen.queueing.idle_timeout = 0.5
    return chosen


class _NoMemory(kopf.DiffBaseStorage):
    """Instead of kopf's record of what it handled last: it copies each object for that, and only other handlers need it."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def _listener(kind: Kind, cache: Cache, queue: WorkQueue[Key], watches: Watches) -> Any:
    async def on_event(event: Any, **_: Any) -> None:
        watches.shows(kind, event["object"])
        take = cache.delete if event["type"] == "DELETED" else cache.upsert
        for key in take(kind, event["object"]):
            queue.add(key, low_priority=_can_wait(kind, event["object"]))

    return on_event


def _can_wait(kind: Kind, raw: Any) -> bool:
    """Whether it is no new spec: new children come first, what is said of old ones after."""
    observed = (raw.get("status") or {}).get("observedGeneration")
    return kind is not ENDPOINT or observed == raw["metadata"].get("generation")
