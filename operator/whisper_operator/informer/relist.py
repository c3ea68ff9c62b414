"""Listing into the cache: all, before the first worker starts and regularly; sooner, what may have been missed or not read.

Only this lists: kopf's watches begin with nothing, and what was there then is listed afterwards.
"""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Collection, Iterable

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

    def __init__(
        self,
        api: Api,
        cache: Cache,
        access: Access,
        watches: Watches,
        seconds: float,
        wake: Callable[[Key], None] = lambda key: None,
    ) -> None:
        """`seconds`: how often all is listed. `wake` is called with the endpoints that something changed for, as soon as one list
        tells of it, whichever others hang or fail."""
        self._api = api
        self._cache = cache
        self._access = access
        self._watches = watches
        self._seconds = seconds
        self._wake = wake
        self._due = dict.fromkeys(access.places, 0.0)
        """When each is to be listed, by the monotonic clock."""
        self._not_before: dict[Place, float] = {}
        """And when the API server wants to be asked again, likewise."""
        self._versions: dict[Place, int] = {}
        """The resourceVersion of the last list."""
        self._sooner = asyncio.Event()

    def soon(self, place: Place) -> None:
        """List it as soon as the API server wants to be asked, as where a watch has begun: what was deleted before is never
        reported, and what was there is not shown."""
        soon = max(time.monotonic() + GATHER_SECONDS, self._not_before.get(place, 0.0))
        self._due[place] = min(self._due[place], soon)
        self._sooner.set()

    def behind(self, version: float) -> Collection[Place]:
        """What was listed before this resourceVersion, which is of whatever kind; not what can't be read for now, such as a kind
        that hangs, for which nothing waits."""
        readable = [place for place in self._due if self._access.obstacle(*place) is None]
        return [place for place in readable if self._versions.get(place, -1) < version]

    async def wait(self, seconds: float) -> None:
        """Until something is to be listed, but no longer than that."""
        self._sooner.clear()
        left = min(min(self._due.values()) - time.monotonic(), seconds)
        if left > 0:
            try:
                await asyncio.wait_for(self._sooner.wait(), left)
            except TimeoutError:
                return

    async def list(self, places: Collection[Place] | None = None) -> None:
        """List these, or what is due.

        Raises Retry if nothing can be that could be until now: then the API server can't be asked. Raises WentBack.
        """
        failures: dict[Place, Retry] = {}
        now = time.monotonic()
        readable = [place for place in self._due if self._access.obstacle(*place) is None]
        due = [place for place, at in self._due.items() if at <= now] if places is None else list(places)
        # Events last: which endpoints they concern is told by what is known of those.
        for is_last in (False, True):
            each = [place for place in due if (place[0] is EVENT) is is_last]
            await self._list_each(each, failures)
        if len(failures) == len(due) and any(place in failures for place in readable):
            # One more of what could be read until now tells whether these are at fault, or the API server is.
            another = [place for place in readable if place not in failures][:1]
            await self._list_each(another, failures)
            if len(failures) == len(due) + len(another):
                for place in failures:
                    self._due[place] = now
                reason = next(iter(failures.values()))
                raise Unavailable(str(reason), max(each.after for each in failures.values())) from reason
        for place, failure in failures.items():
            self._access.listing(place, Obstacle(FAILING, str(failure)))
            self._again(place, AGAIN_SECONDS, failure.after)
        for _, namespace in self._access.tell():
            # Each says whether that concerns it.
            self._wake_all(key for key in self._cache.endpoints() if namespace in (None, key[0]))

    async def _list_each(self, places: Iterable[Place], failures: dict[Place, Retry]) -> None:
        """List them at once, so that one that hangs makes none of the others wait its turn. Raises WentBack."""
        places = list(places)
        answers = await asyncio.gather(*map(self._list, places), return_exceptions=True)
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, Retry):
                failures[place] = answer
            elif isinstance(answer, BaseException):
                raise answer

    async def _list(self, place: Place) -> None:
        kind, namespace = place
        alive: dict[str, int] = {}

        def take(raw: Raw) -> None:
            metadata = raw["metadata"]
            try:
                self._wake_all(self._cache.upsert(kind, raw))
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
            return
        if version is None:
            self._obstacle(place, Obstacle(MISSING))
            self._wake_all(self._cache.replace(kind, (), sys.maxsize, namespace))
            return
        if version < known:
            raise WentBack
        self._versions[place] = version
        self._access.listing(place, None)
        if self._access.obstacle(*place) is not None:  # that of its watch
            self._again(place, AGAIN_SECONDS)
        self._watches.listed(place, max(alive.values(), default=None))
        self._wake_all(self._cache.replace(kind, alive, version, namespace))

    def _wake_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._wake(key)

    def _obstacle(self, place: Place, obstacle: Obstacle) -> None:
        self._access.listing(place, obstacle)
        self._again(place, AGAIN_SECONDS)

    def _again(self, place: Place, seconds: float, after: float = 0.0) -> None:
        """In so many seconds, spread, so that not all come at once, but not before `after`; later ones still count."""
        now = time.monotonic()
        self._not_before[place] = now + after
        spread = min(seconds, self._seconds) * random.uniform(0.9, 1.1)
        self._due[place] = now + max(spread, after * random.uniform(1.0, 1.2))


def names(places: Collection[Place]) -> str:
    """As people read them."""
    return ", ".join(sorted({kind.qualified for kind, _ in places}))
