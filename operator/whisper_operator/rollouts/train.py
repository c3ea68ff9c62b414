"""Whose turn it is: changes of pods that the installation makes, and not the endpoint's own spec, go out one by one.

A new server version that does not start would take down every endpoint of the cluster at once otherwise. So at most so many
endpoints as the configuration says are on their way to new pods at a time, and the next goes when one has served again for a
while. One that fails stops all others that would get the server that its pods have, until it serves or somebody has it passed
over. On the way to another server it takes up no place: the version that mends all comes even if it can't be written any more.

It fails by what may be the new pods' own fault, and by whatever leaves an endpoint down that was whole. It is put aside instead,
and nobody waits for it, where it serves on with its old pods and only what is around it is in the way, where it was not whole
before, and where the annotation that pauses upgrades is on it.

The order: those that fail, and would get another server; endpoints that are whole, by namespace and name; then those that serve,
but lack replicas or are in the middle of a change of their own; then those that serve nothing. These go all at once as soon as
one has come through with the same server, as they have nothing to lose and may have waited for that very change; and whose pods
have never worked, and need somebody, go at any time. Behind all others go those that could not be written or do not come when
called: until a write of theirs works.

Where the train is stands in the cluster: on each Deployment that is on its way, that it is. What is kept here is an index of
that, and who waits; both come again with the first look at every endpoint, before which nobody goes, unless it takes too long.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from whisper_operator.kube.objects import Key, Raw
from whisper_operator.observed.children import Child
from whisper_operator.rollouts.progress import DOWN, Mark, Progress, Standing
from whisper_operator.rollouts.turn import STATES, Rolling, Turn

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""How long is waited for who is to be looked at for the first time, or was called: his namespace's API may hang."""
UNSURE_SECONDS = 10.0
"""By when a write that was not answered has been carried out, or will not be."""


class Train:
    """Call everything from one event loop."""

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        """`wake` is called with each endpoint whose turn it may be now."""
        self._wake = wake
        self.leaves: Callable[[str], bool] = lambda namespace: False
        """Whether a namespace is another installation's, whose upgrades are nothing to this one."""
        self.later: Callable[[float, Callable[[], None]], object] = lambda seconds, call: None
        """Has something done in so many seconds."""
        self._rolling: dict[Key, Rolling] = {}
        """Those whose Deployment says that they are on their way."""
        self._unsure: list[Key] = []
        """Those of which nobody knows whether their Deployment was written, once for each try."""
        self._numbers = count()
        """What waits for somebody has one, so that the end of an earlier wait ends no later one."""
        self.end()

    def end(self) -> None:
        """Forget who waits: another replica goes on with it. Who is on its way stands in the cluster."""
        self._unseen: dict[Key, int] = {}
        """Endpoints that are about to be looked at for the first time, and the number of the wait for them."""
        self._line: dict[Key, Progress] = {}
        self._called: dict[Key, int] = {}
        """Whose turn it may be, and the number of the wait for them."""
        self._behind: dict[Key, int] = {}
        """Who is to wait behind all others, and behind whom of these."""
        self._paused: set[Key] = set()
        self._boarding: dict[Key, Mark | None] = {}
        """Those that may go, and whose Deployment is being written; the mark of an earlier upgrade that it has until then."""
        self._proven: set[str] = set()
        """Servers with which pods have come through since the start."""

    def begin(self, keys: Iterable[Key]) -> None:
        """All these are about to be looked at: nobody goes before each was, as only then it is known who else waits."""
        self._unseen.clear()
        self._proven.clear()
        self.join(keys)

    def join(self, keys: Iterable[Key]) -> None:
        """These are about to be looked at as well."""
        number = next(self._numbers)
        for key in keys:
            self._unseen.setdefault(key, number)
        self.later(PATIENCE_SECONDS, partial(self._lose_patience, number))

    def note(self, key: Key, resource: Raw | None, deployment: Child | None) -> None:
        """An endpoint and its live Deployment as they are now; None for what is gone."""
        gone = resource is None or "deletionTimestamp" in resource["metadata"]
        mark = None if gone or deployment is None or deployment.deleting else Mark.of(deployment)
        before = self._rolling.get(key)
        if mark is None:
            self._rolling.pop(key, None)
        elif before is None or before.mark != mark:
            self._rolling[key] = Rolling(mark, Standing.ROLLING)
            self._behind.pop(key, None)
        if gone:
            self._line.pop(key, None)
            self._behind.pop(key, None)
            self._paused.discard(key)
            self._unseen.pop(key, None)
        if gone or (before is not None and mark is None):
            self._call_next()

    @contextmanager
    def look(self, key: Key) -> Iterator[None]:
        """Around each look at an endpoint: after it, who has not asked waits no more, and who boards is written or can't be."""
        waited = self._line.pop(key, None) is not None
        self._paused.discard(key)
        self._called.pop(key, None)
        answered = False
        try:
            yield
            answered = True
        finally:
            boarded, mark = key in self._boarding, self._boarding.pop(key, None)
            rolling = self._rolling.get(key)
            if boarded and (rolling is None or rolling.mark == mark):
                self._put_behind(key)
                if not answered:
                    self._unsure.append(key)
                    self.later(UNSURE_SECONDS, partial(self._be_sure, key))
            if self._saw(key) or boarded or (waited and key not in self._line):
                self._call_next()

    def judge(self, key: Key, progress: Progress) -> None:
        """How an endpoint does: in each look, before it asks."""
        was, now = self._rolling.get(key), progress.standing
        if was is not None:
            self._rolling[key] = was._replace(standing=now)
            if now is Standing.THROUGH and progress.needed:  # no pods, no proof
                self._proven.add(was.mark.server)
            if now is Standing.FAILED and was.standing is not now and not self.leaves(key[0]):
                logger.warning(
                    "The upgrade of WhisperEndpoint %s in namespace %s fails (%s): no other is upgraded to %s until it serves. "
                    "The annotation whisper-operator.io/paused=true on it has the others pass",
                    *(key[1], key[0], progress.fault, was.mark.server),
                )
        if self._saw(key) or (was is not None and was.standing is not now):
            self._call_next()

    def ask(self, key: Key, progress: Progress, *, most: int) -> Turn:
        """Whether the installation may change an endpoint's pods now. `most`: how many are on their way at a time."""
        if progress.held_by:
            self._paused.add(key)
            return Turn.PAUSED
        if key in self._holding_up(progress.server):
            return Turn.BOARD  # it has its place until it has come through, whatever it takes
        if progress.hopeless and not self.stops_others(key):
            return Turn.FREE
        self._line[key] = progress
        turn = self._turn(key, most)
        if turn.goes:
            del self._line[key]
        if turn is Turn.BOARD:
            self._boarding[key] = progress.mark
        return turn

    def stops_others(self, key: Key) -> bool:
        """Whether an endpoint's upgrade fails, as far as was last seen, with the pods that it has by now."""
        return key in self._rolling and self._rolling[key].standing is Standing.FAILED

    def states(self) -> dict[str, int]:
        """How many endpoints are in each of STATES."""
        found = [self._rolling[key].standing for key in self._ours(self._rolling)]
        boarding = len(self._ours(self._boarding.keys() - self._places()))
        rolling, failed = found.count(Standing.ROLLING) + boarding, found.count(Standing.FAILED)
        waiting, paused = self._ours(self._line), self._ours(self._paused)
        return dict(zip(STATES, (len(waiting), len(paused), rolling, failed), strict=True))

    def _turn(self, key: Key, most: int) -> Turn:
        if not self._unseen.keys() <= {key} and not self.stops_others(key):
            return Turn.WAIT
        line = self._waiting()
        if key not in line:
            return Turn.WAIT
        if self._is_free(key):
            return Turn.FREE
        taken = {*self._holding_up(self._line[key].server), *self._boarding, *self._unsure} - {key}
        ahead = sum(self._order(each) < self._order(key) for each in line)
        return Turn.BOARD if len(self._ours(taken)) + ahead < most else Turn.WAIT

    def _call_next(self) -> None:
        """Have those ask again whose turn it may be."""
        if self._unseen:
            return
        line = self._waiting()
        if not line:
            return
        for key in dict.fromkeys([min(line, key=self._order), *filter(self._is_free, line)]):
            if key not in self._called:
                self._called[key] = number = next(self._numbers)
                self.later(PATIENCE_SECONDS, partial(self._miss, key, number))
            self._wake(key)

    def _lose_patience(self, number: int) -> None:
        waited_for = [key for key, its_number in self._unseen.items() if its_number == number]
        for key in waited_for:
            if key not in self._rolling:  # one of these may have failed
                del self._unseen[key]
        if waited_for:
            self._call_next()

    def _miss(self, key: Key, number: int) -> None:
        if self._called.get(key) == number and key in self._line:
            self._put_behind(key)
            del self._called[key]
            self._call_next()

    def _be_sure(self, key: Key) -> None:
        self._unsure.remove(key)
        self._call_next()

    def _put_behind(self, key: Key) -> None:
        self._behind[key] = max(self._behind.values(), default=0) + 1

    def _saw(self, key: Key) -> bool:
        """Note that an endpoint was looked at; whether it was the last."""
        was_last = self._unseen.keys() == {key}
        self._unseen.pop(key, None)
        return was_last

    def _waiting(self) -> list[Key]:
        """Who might go now."""
        places = (self._rolling[key] for key in self._ours(self._rolling))
        failed = {each.mark.server for each in places if each.standing is Standing.FAILED}
        return [key for key in self._ours(self._line) if self._line[key].server not in failed]

    def _is_free(self, key: Key) -> bool:
        return self._line[key].serves == DOWN and self._line[key].server in self._proven

    def _order(self, key: Key) -> tuple[int, bool, int, Key]:
        return self._behind.get(key, 0), not self.stops_others(key), self._line[key].serves, key

    def _holding_up(self, server: str) -> set[Key]:
        """Who takes up a place on the way to a server: those that fail with another one don't."""
        return {
            key
            for key in self._places()
            if not self.stops_others(key) or self._rolling[key].mark.server == server
        }

    def _places(self) -> set[Key]:
        return {key for key, each in self._rolling.items() if each.standing.takes_place}

    def _ours(self, keys: Iterable[Key]) -> list[Key]:
        return [key for key in keys if not self.leaves(key[0])]
