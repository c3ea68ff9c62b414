"""Whether the watches live: one that has died looks just like one that has nothing to report.

The lists tell them apart. What a list holds, its watch has shown as well, or is about to; a watch goes on from a resourceVersion,
too, and has shown all until then. One that owes for a minute what a list held is dead, however much has happened since.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from whisper_operator.informer.access import FAILING, Access, Obstacle, Place
from whisper_operator.kube.kinds import Kind
from whisper_operator.kube.objects import Raw

GRACE_SECONDS = 60.0
"""How long a watch may be behind a list."""
PAUSE_SECONDS = 0.3
"""Watches begin closer together than that."""
LONGEST_START_SECONDS = 3.0
UNWATCHED_SECONDS = 5.0
"""How long a kind may have no watch: from one to the next it is a tenth of a second."""


class Watches:
    """What kopf's watches ask and show. Not thread-safe: it lives on the event loop."""

    def __init__(
        self,
        access: Access,
        begun: Callable[[Place], None],
        grace: float = GRACE_SECONDS,
    ) -> None:
        """`begun` is called when a watch has begun at another point than where it ended: what was deleted in between is never
        reported."""
        self._access = access
        self._begun = begun
        self._grace = grace
        self._asking: dict[Place, int] = {}
        """Requests and streams that are under way."""
        self._since = {place: time.monotonic() for place in access.places}
        """When the last of them ended."""
        self._interrupted: set[Place] = set()
        """Watches that ended in another way than by their time being over."""
        self._some_begun = asyncio.Event()
        self._refused: set[Place] = set()
        """Watches that the API server will not give: a restart would not help."""
        self._shown: dict[Place, int] = {}
        """The newest resourceVersion that a watch has shown, or gone on from."""
        self._owed: dict[Place, tuple[int, float]] = {}
        """The newest resourceVersion of a list's objects that the watch had not shown, and when that was listed."""

    async def settle(self) -> None:
        """Wait until the watches have begun, so that all is listed after that; but not for those that can't."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._some_begun.wait(), LONGEST_START_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)

    def asks(self, place: Place) -> None:
        """A watch, or the list that it begins with, is asked for."""
        self._asking[place] = self._asking.get(place, 0) + 1

    def ends(self, place: Place) -> None:
        """It has ended."""
        self._asking[place] -= 1
        self._since[place] = time.monotonic()

    def held_up(self, place: Place, obstacle: Obstacle, *, answered: bool) -> None:
        """It can't be had now; `answered`: as the API server has said itself."""
        self._interrupted.add(place)
        if answered:
            self._refused.add(place)
        if obstacle.reason == FAILING:  # That passes; until then, what is not shown can be listed.
            self._begun(place)
        else:
            self._access.watching(place, obstacle)

    def interrupted(self, place: Place) -> None:
        """It broke."""
        self._interrupted.add(place)

    def lists(self, place: Place) -> None:
        """The list that a watch begins with was answered."""
        self._access.watching(place, None)
        self._refused.discard(place)
        self._interrupted.discard(place)
        self._some_begun.set()
        self._begun(place)

    def goes_on(self, place: Place, version: int) -> None:
        """A watch was answered that goes on from this resourceVersion."""
        self._access.watching(place, None)
        self._refused.discard(place)
        self._shown[place] = max(version, self._shown.get(place, -1))
        if place in self._interrupted:
            self._interrupted.remove(place)
            self._begun(place)

    def shows(self, kind: Kind, raw: Raw) -> None:
        """A watch has reported an object."""
        metadata = raw["metadata"]
        place = self._access.place(kind, metadata["namespace"])
        self._shown[place] = max(int(metadata["resourceVersion"]), self._shown.get(place, -1))

    def shown_until(self, place: Place) -> int:
        """The resourceVersion until which a watch has shown all; -1 if there was none yet."""
        return self._shown.get(place, -1)

    def listed(self, place: Place, newest: int | None) -> None:
        """A list has found objects up to this resourceVersion."""
        owed, _ = self._owed.get(place, (-1, 0.0))
        shown = self._shown.get(place, -1)
        if owed <= shown:
            self._owed.pop(place, None)
            if newest is not None and newest > shown:
                self._owed[place] = (newest, time.monotonic())

    @property
    def dead(self) -> list[str]:
        """Names of the kinds whose watch is dead."""
        now = time.monotonic()
        return sorted(
            {
                place[0].qualified
                for place, (owed, since) in self._owed.items()
                if owed > self._shown.get(place, -1)
                and now - since > self._grace
                and place not in self._refused
            }
        )

    @property
    def unwatched(self) -> list[Place]:
        """What can be listed, and is watched by nobody."""
        now = time.monotonic()
        return [
            place
            for place, since in self._since.items()
            if not self._asking.get(place) and now - since > UNWATCHED_SECONDS and self._access.listed(place)
        ]
