"""Whether the watches live: one that has died looks just like one that has nothing to report.

The regular lists tell them apart. What a list holds, its kind's watch has shown as well, or is about to; if two lists, some time
apart, hold the same state of an object and the watch has still shown nothing as new, it is dead.
"""

import asyncio
import time
from collections.abc import Iterable

from whisper_operator.kube.kinds import Kind
from whisper_operator.kube.objects import Raw

PAUSE_SECONDS = 5.0
"""The objects of one listing come closer together."""

GRACE_SECONDS = 60.0
"""How long a watch may be behind a list."""


class Watches:
    """Not thread-safe: it lives on the event loop."""

    def __init__(self) -> None:
        self._shown: dict[Kind, int] = {}
        """The newest resourceVersion that a watch has shown."""
        self._owed: dict[Kind, tuple[str, int]] = {}
        """Of each kind, the newest object in the last list, by uid and resourceVersion, if the watch had not shown as much."""
        self._dead: dict[Kind, int] = {}
        self._began: dict[Kind, float] = {}
        self.began_anew = asyncio.Event()
        """Set when a watch had to list anew: what was deleted meanwhile is never reported."""

    def shown(self, kind: Kind, raw: Raw, *, at_start: bool = False) -> None:
        """A watch has reported an object; `at_start`: of the list that it starts with."""
        if at_start:
            now = time.monotonic()
            if now - self._began.get(kind, now) > PAUSE_SECONDS:
                self.began_anew.set()
            self._began[kind] = now
        version = int(raw["metadata"]["resourceVersion"])
        self._shown[kind] = max(version, self._shown.get(kind, -1))

    def listed(self, kind: Kind, items: Iterable[tuple[int, str]]) -> None:
        """A list has found objects of these resourceVersions and uids."""
        newest = max(items, default=None)
        before = self._owed.pop(kind, None)
        if newest is None or newest[0] <= self._shown.get(kind, -1):
            return
        self._owed[kind] = (newest[1], newest[0])
        if self._owed[kind] == before:
            self._dead[kind] = newest[0]

    @property
    def behind(self) -> bool:
        """Whether a watch owes what the last lists held."""
        return any(self._shown.get(kind, -1) < version for kind, (_, version) in self._owed.items())

    @property
    def dead(self) -> list[str]:
        """Names of the kinds whose watch is dead."""
        return [kind.qualified for kind, version in self._dead.items() if self._shown.get(kind, -1) < version]
