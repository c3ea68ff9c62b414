"""Listing into the cache: all, before the first worker starts and regularly; sooner, what may have been missed or not read.

Only this lists: kopf's watches begin with nothing, and what was there then is listed afterwards.
"""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Collection, Iterable

from whisper_operator.informer.access import FAILING, FORBIDDEN, MISSING, Access, Obstacle, Place
from whisper_operator.informer.cache import Cache
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.client import PAGE, Api
from whisper_operator.kube.errors import Forbidden, Refused, Retry, Unavailable
from whisper_operator.kube.kinds import ENDPOINT, EVENT, OURS, WARNINGS
from whisper_operator.kube.objects import Key, Raw

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 15.0
"""From one look at what can't be read to the next."""
GATHER_SECONDS = 1.0
"""From when one watch begins anew to when all have: they break together."""
EVENTS_TO_A_PAGE = 500
"""They are small, and nearly all of them are foreign and kept by nobody."""


class WentBack(Exception):
    """The cluster is as it was once before, as after etcd was put back to a backup: resourceVersions order nothing any more."""


class Lister:
    """Reads only. What can't be listed is noted, and keeps nothing else from being listed."""

    def __init__(self, api: Api, cache: Cache, access: Access, watches: Watches, seconds: float) -> None:
        """`seconds`: how often all is listed."""
        self._api = api
        self._cache = cache
        self._access = access
        self._watches = watches
        self._seconds = seconds
        self._due = dict.fromkeys(access.places, 0.0)
        """When each is to be listed, by the monotonic clock."""
        self._versions: dict[Place, int] = {}
        """The resourceVersion of the last list."""
        self._sooner = asyncio.Event()

    def begun(self, place: Place) -> None:
        """A watch has begun: what was deleted before is never reported, and what was there is not shown."""
        self._due[place] = min(self._due[place], time.monotonic() + GATHER_SECONDS)
        self._sooner.set()

    async def wait(self, seconds: float) -> None:
        """Until something is to be listed, but no longer than that."""
        self._sooner.clear()
        left = min(min(self._due.values()) - time.monotonic(), seconds)
        if left > 0:
            try:
                await asyncio.wait_for(self._sooner.wait(), left)
            except TimeoutError:
                return

    async def list(self) -> set[Key]:
        """List what is due; the endpoints that something changed for.

        Raises Retry if nothing can be that could be until now: then the API server can't be asked. Raises WentBack.
        """
        changed: set[Key] = set()
        failures: dict[Place, Retry] = {}
        now = time.monotonic()
        readable = [place for place in self._due if self._access.obstacle(*place) is None]
        due = [place for place, at in self._due.items() if at <= now]
        # Events last: which endpoints they concern is told by what is known of those.
        for is_last in (False, True):
            each = [place for place in due if (place[0] is EVENT) is is_last]
            await self._list_each(each, changed, failures)
        if len(failures) == len(due) and any(place in failures for place in readable):
            # One more of what could be read until now tells whether these are at fault, or the API server is.
            another = [place for place in readable if place not in failures][:1]
            await self._list_each(another, changed, failures)
            if len(failures) == len(due) + len(another):
                for place in failures:
                    self._due[place] = now
                reason = next(iter(failures.values()))
                raise Unavailable(str(reason), max(each.after for each in failures.values())) from reason
        for place, failure in failures.items():
            self._access.listing(place, Obstacle(FAILING, str(failure)))
            self._again(place, max(AGAIN_SECONDS, failure.after))
        for _, namespace in self._access.tell():
            # Each says whether that concerns it.
            changed.update(key for key in self._cache.endpoints() if namespace in (None, key[0]))
        return changed

    async def _list_each(
        self, places: Iterable[Place], changed: set[Key], failures: dict[Place, Retry]
    ) -> None:
        """List them at once, so that one that hangs makes none of the others wait its turn. Raises WentBack."""
        places = list(places)
        answers = await asyncio.gather(*map(self._list, places), return_exceptions=True)
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, Retry):
                failures[place] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                changed |= answer

    async def _list(self, place: Place) -> set[Key]:
        kind, namespace = place
        changed: set[Key] = set()
        alive: dict[str, int] = {}

        def take(raw: Raw) -> None:
            metadata = raw["metadata"]
            try:
                changed.update(self._cache.upsert(kind, raw))
            except Exception:  # of one object, which must not be everybody's trouble
                where = (metadata.get("namespace"), metadata["name"])
                logger.exception("%s %s/%s can't be read, and counts as unchanged", kind.name, *where)
            alive[metadata["uid"]] = int(metadata["resourceVersion"])

        labels = None if kind in (ENDPOINT, EVENT) else OURS
        fields, page = (WARNINGS, EVENTS_TO_A_PAGE) if kind is EVENT else (None, PAGE)
        self._again(place, self._seconds)
        known = max(self._versions.get(place, 0), self._watches.shown_until(place))
        try:
            version = await self._api.list_all(kind, namespace, labels, fields, take, page=page)
        except Refused as error:
            reason = FORBIDDEN if isinstance(error, Forbidden) else FAILING
            self._obstacle(place, Obstacle(reason, error.message))
            return set()
        if version is None:
            self._obstacle(place, Obstacle(MISSING))
            return self._cache.replace(kind, (), sys.maxsize, namespace)
        if version < known:
            raise WentBack
        self._versions[place] = version
        self._access.listing(place, None)
        if self._access.obstacle(*place) is not None:  # that of its watch
            self._again(place, AGAIN_SECONDS)
        self._watches.listed(place, max(alive.values(), default=None))
        return changed | self._cache.replace(kind, alive, version, namespace)

    def _obstacle(self, place: Place, obstacle: Obstacle) -> None:
        self._access.listing(place, obstacle)
        self._again(place, AGAIN_SECONDS)

    def _again(self, place: Place, seconds: float) -> None:
        """In so many seconds, spread, so that not all come at once; later ones still count."""
        self._due[place] = time.monotonic() + min(seconds, self._seconds) * random.uniform(0.9, 1.1)


def names(places: Collection[Place]) -> str:
    """As people read them."""
    return ", ".join(sorted({kind.qualified for kind, _ in places}))
