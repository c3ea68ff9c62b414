"""Whose turn it is: changes of pods that the installation makes, and not the endpoint's own spec, go out one by one.

A new server version that does not start would take down every endpoint of the cluster at once otherwise. So at most so many
endpoints as the configuration says are on their way to new pods at a time, and the next goes when one serves again. One that
fails stops all others until somebody has acted.

The order: endpoints that are whole, by namespace and name; then those that lack replicas or are in the middle of a change of
their own, which might never get whole, and so make way when they fail instead of stopping others; and when all have passed, those
that serve nothing, all at once, as they have nothing to lose and may have waited for that very change.

Where the train is stands in the cluster: which pods an endpoint has and which it would get, and on each Deployment that is on
its way, that it is. What is kept here is an index of that, and who waits; both come again with the first look at every endpoint,
before which nobody goes.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum

from whisper_operator.kube.objects import Key, Raw
from whisper_operator.observed.children import Child
from whisper_operator.rollouts.progress import DOWN, Progress

logger = logging.getLogger(__name__)

STATES = ("waiting", "paused", "rolling", "failed")
"""Of upgrades."""


class Turn(Enum):
    """The answer to an endpoint whose pods the installation has changed."""

    GO = "go"
    """It takes up no place, since it serves nothing that could be lost."""
    BOARD = "board"
    """It takes up a place until it serves again."""
    WAIT = "wait"
    STOPPED = "stopped"
    """It waits, and until somebody has acted for another one."""
    PAUSED = "paused"
    """The endpoint's users or who runs the operator want it held."""

    @property
    def goes(self) -> bool:
        return self in (Turn.GO, Turn.BOARD)


class Train:
    """Call everything from one event loop."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        """`wake` is called with each endpoint whose turn it may be now, or that has something else to tell."""
        self._wake = wake
        self.leaves: Callable[[str], bool] = lambda namespace: False
        """Whether a namespace is another installation's, whose upgrades are nothing to this one."""
        self._unseen: set[Key] = set()
        """Endpoints that have not been looked at, of those that there were at the start."""
        self._line: dict[Key, int] = {}
        """Who waits, and how it serves."""
        self._paused: set[Key] = set()
        self._boarding: set[Key] = set()
        """Those that may go, and whose Deployment is being written."""
        self._rolling: dict[Key, bool] = {}
        """Those that are on their way, and whether that has failed."""

    def begin(self, keys: Iterable[Key]) -> None:
        """All these are about to be looked at: nobody goes before each was, as only then it is known who else waits."""
        self._unseen = set(keys)

    def join(self, keys: Iterable[Key]) -> None:
        """These, which were another installation's, are about to be looked at as well."""
        self._unseen |= set(keys)

    def end(self) -> None:
        """Forget who waits: another replica goes on with it. Who is on its way stands in the cluster."""
        for memory in (self._unseen, self._line, self._paused, self._boarding):
            memory.clear()

    def note(self, key: Key, resource: Raw | None, deployment: Child | None, scaler: Child | None) -> None:
        """An endpoint and its live Deployment as they are now; None for what is gone."""
        before = self._rolling.pop(key, None)
        after = None
        if resource is not None and deployment is not None:
            progress = Progress.of(deployment, scaler)
            failed = progress.failed(resource)
            if progress.on_its_way and (progress.is_proof or not failed):
                after = self._rolling[key] = failed
        left = resource is None and (key in self._line or self._unseen == {key})
        if resource is None:
            self._line.pop(key, None)
            self._unseen.discard(key)
            self._paused.discard(key)
        if after and not before and not self.leaves(key[0]):
            logger.warning(
                "The upgrade of WhisperEndpoint %s in namespace %s fails: no other is upgraded until it serves; %d wait",
                *(key[1], key[0], len(self._line)),
            )
        if bool(after) != bool(before):
            for each in list(self._line):
                self._wake(each)
        elif left or (before is not None and after is None):
            self._call_next()

    @contextmanager
    def look(self, key: Key) -> Iterator[None]:
        """Around each look at an endpoint: who does not ask in it does not wait any more; who boards has been written after it,
        or could not be."""
        waited = self._line.pop(key, None) is not None
        self._paused.discard(key)
        try:
            yield
        finally:
            last = self._unseen == {key}
            self._unseen.discard(key)
            boarded = key in self._boarding
            self._boarding.discard(key)
            if last or boarded or (waited and key not in self._line):
                self._call_next()

    def ask(self, key: Key, progress: Progress, *, most: int, paused: bool) -> Turn:
        """Whether the installation may change an endpoint's pods now. `most`: how many are on their way at a time."""
        if paused:
            self._paused.add(key)
            return Turn.PAUSED
        if key in self._rolling:
            return Turn.BOARD  # it has its place until it serves again, whatever it takes
        if progress.serves == DOWN and not progress.proven:
            return Turn.GO  # its pods have never worked
        self._line[key] = progress.serves
        turn = self._turn(key, most)
        if turn.goes:
            del self._line[key]
        if turn is Turn.BOARD:
            self._boarding.add(key)
        return turn

    def states(self) -> dict[str, int]:
        """How many endpoints are in each of STATES."""
        failed = self._failed()
        rolling = self._taken() - failed
        waiting, paused = self._ours(self._line), self._ours(self._paused)
        return dict(zip(STATES, (len(waiting), len(paused), rolling, failed), strict=True))

    def _turn(self, key: Key, most: int) -> Turn:
        if self._failed():
            return Turn.STOPPED
        taken = self._taken()
        if len(self._unseen) > (key in self._unseen) or taken >= most:
            return Turn.WAIT
        place = self._place(key)
        line = self._ours(self._line)
        if self._line[key] == DOWN:
            others_serve = any(self._line[each] != DOWN for each in line)
            return Turn.WAIT if taken or others_serve else Turn.GO
        ahead = sum(self._place(each) < place for each in line)
        return Turn.BOARD if taken + ahead < most else Turn.WAIT

    def _call_next(self) -> None:
        """Have those ask again whose turn it may be."""
        line = self._ours(self._line)
        if self._unseen or self._failed() or not line:
            return
        first = min(line, key=self._place)
        for key in [first] if self._line[first] != DOWN else line:
            self._wake(key)

    def _ours(self, keys: Iterable[Key]) -> list[Key]:
        return [key for key in keys if not self.leaves(key[0])]

    def _failed(self) -> int:
        return sum(self._rolling[key] for key in self._ours(self._rolling))

    def _taken(self) -> int:
        """How many are on their way, those that have failed among them."""
        return len(self._ours(self._rolling.keys() | self._boarding))

    def _place(self, key: Key) -> tuple[int, Key]:
        return self._line[key], key
