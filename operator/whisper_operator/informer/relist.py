"""Listing everything into the cache: before the first worker starts, and regularly, for what the watches missed."""

import logging
import sys
from collections.abc import Iterable

from whisper_operator.informer.access import FAILING, FORBIDDEN, MISSING, Access, Obstacle, Place
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Refused, Retry, Unavailable
from whisper_operator.kube.kinds import ENDPOINT, EVENT, OURS, WARNINGS, Kind
from whisper_operator.kube.objects import Key, Raw

logger = logging.getLogger(__name__)


class Lister:
    """Reads only. What can't be listed is noted, and keeps nothing else from being listed."""

    def __init__(self, api: Api, cache: Cache, access: Access, watches: Watches) -> None:
        self._api = api
        self._cache = cache
        self._access = access
        self._watches = watches

    async def list(self, places: Iterable[Place]) -> set[Key]:
        """List these kinds in these namespaces; the endpoints that something changed for.

        Raises Retry if none could be: then it is the API server that can't be asked.
        """
        changed: set[Key] = set()
        listed, failure = 0, None
        for kind, namespace in places:
            before = self._access.obstacle(kind, namespace)
            try:
                changed |= await self._list(kind, namespace)
                listed += 1
            except Retry as error:
                failure = error
                self._access.note(kind, namespace, Obstacle(FAILING, str(error)))
            if _forbidden(before) != _forbidden(self._access.obstacle(kind, namespace)):
                # Their status says so.
                changed.update(key for key in self._cache.endpoints() if namespace in (None, key[0]))
        if failure is not None and not listed:
            raise Unavailable(str(failure)) from failure
        return changed

    async def _list(self, kind: Kind, namespace: str | None) -> set[Key]:
        changed: set[Key] = set()
        alive: list[tuple[int, str]] = []

        def take(raw: Raw) -> None:
            try:
                changed.update(self._cache.upsert(kind, raw))
            except Exception:  # of one object, which must not be everybody's trouble
                where = (raw["metadata"].get("namespace"), raw["metadata"]["name"])
                logger.exception("%s %s/%s can't be read, and counts as unchanged", kind.name, *where)
            alive.append((int(raw["metadata"]["resourceVersion"]), raw["metadata"]["uid"]))

        labels = None if kind in (ENDPOINT, EVENT) else OURS
        fields = WARNINGS if kind is EVENT else None
        try:
            version = await self._api.list_all(kind, namespace, labels, fields, take)
        except Refused as error:
            self._access.note(kind, namespace, Obstacle(FORBIDDEN, error.message))
            return set()
        self._access.note(kind, namespace, Obstacle(MISSING) if version is None else None)
        self._watches.listed(kind, alive)
        # Of a kind that is gone, nothing is left.
        at = sys.maxsize if version is None else version
        return changed | self._cache.replace(kind, {uid for _, uid in alive}, at, namespace)


def _forbidden(obstacle: Obstacle | None) -> bool:
    return obstacle is not None and obstacle.reason == FORBIDDEN
