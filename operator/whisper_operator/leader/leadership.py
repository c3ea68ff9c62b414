"""Who may write, and when: the protocol, on one page.

- An installation's replicas share one Lease, LEADER. Whoever has it is the leader, whose workers run; the others watch and list
  as well, so that the next one is ready. The leader renews it every 2 s (Timing.retry). It begins nothing once its last renewal
  was sent 6 s ago (renew); others take it when they have seen no renewal for 10 s (lease), each by its own clock (lock.py).
- Each write asks `may_write` here, and once more when its first byte is sent: a process that was stopped for a while, or can't
  reach the API server, knows by its own clock that its time is over. It is told how many seconds the write may take, which the
  API server is given as the request's deadline (kube/client.py): what was begun in time is over before the next leader begins,
  also if an admission webhook holds it. Only what names the resourceVersion that it is about may take longer, as it can't undo
  what another has written since.
- A leader that ends in good order begins nothing more, waits for its writes, and gives the Lease back, so that the next one has
  it at once. If one of them was cut off, the Lease runs out instead.
- Installations leave each other alone (installations.py, area.py). One for some namespaces has a Lease in each, its claim, with
  60, 240 and 300 s in place of 2, 6 and 10. Of two for the whole cluster, the one whose LEADER is older goes on. One for the
  whole cluster looks at all these Leases every 2 s, and writes nothing without a look in the last 6 s. So it has stopped 10 s
  (STOPS_SECONDS) after another's Lease was made or taken, and that is how long the other waits before it begins.
- All these times are in Timing, or made of it. Each "stops" comes before the "begins" that waits for it, with what is on its way
  in between; clocks of different machines are never compared.

Renewing and looking are two tasks, and neither waits for the other.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

from prometheus_client import Gauge

from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import NotLeading
from whisper_operator.kube.kinds import FIELD_MANAGER
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.leader.area import EVERYTHING, SOMEBODY, Area, Left, SomeNamespaces, WholeCluster
from whisper_operator.leader.installations import LEADER, MARKS, SCOPE_ANNOTATION, annotations
from whisper_operator.leader.leases import Leases, clock
from whisper_operator.leader.lock import Lock

logger = logging.getLogger(__name__)

FOLLOWERS_SECONDS = 1.0
"""From one look of a follower at the Lease to the next: the most that a Lease which was given back waits for it."""
FOLLOWERS_LOOK_SECONDS = 10.0
"""And at other installations."""
AGAIN_SECONDS = 0.2
"""From a renewal that failed to the next try: there is time for two."""
DRAIN_SECONDS = 1.0
"""That writes under way have to end before the Lease is given back; else it runs out by itself."""

IS_LEADER = Gauge(
    "whisper_operator_leader", "1 on the replica that writes, 0 on those that wait.", registry=REGISTRY
)
LEFT_TO_OTHERS = Gauge(
    "whisper_operator_left_to_others",
    "Namespaces (empty: all) in which nothing is written, as another installation (by its namespace) looks after them.",
    ["namespace", "installation"],
    registry=REGISTRY,
)


class Leadership:
    """One replica's part in it."""

    def __init__(
        self,
        leases: Api,
        writer: Api,
        namespace: str,
        namespaces: Collection[str],
        changed: Callable[[str], None] = lambda namespace: None,
        service_account: str = FIELD_MANAGER,
    ) -> None:
        """`leases`: a connection of its own; `writer`: what all else is written by. `namespace`, `service_account`: the
        installation's own; `namespaces`: those that it looks after, or none for all. `changed` is called with one that is left to
        others from now on, or no longer ("": all are)."""
        self.identity = f"{os.environ.get('HOSTNAME') or os.uname().nodename}_{uuid.uuid4()}"
        self._leases = Leases(leases)
        self._writer = writer
        self._changed = changed
        self._annotations = annotations(namespaces, service_account)
        self._lock = Lock(namespace, LEADER, self.identity, labels=MARKS, annotations=self._annotations)
        self._area: Area = (
            SomeNamespaces(self._leases, namespace, namespaces)
            if namespaces
            else WholeCluster(self._leases, namespace, self._lock)
        )
        self._ending = False
        self._left: Left = {}
        """As was last told."""
        self._untold: set[str] = set()
        """What somebody was told is left to others before all were."""
        self._look_now = asyncio.Event()
        IS_LEADER.set(0)
        LEFT_TO_OTHERS.clear()

    @property
    def predecessor(self) -> float:
        """The resourceVersion until which others may have written before this term: -1 nobody did, inf unknown."""
        return self._lock.predecessor

    @property
    def leads(self) -> bool:
        """Whether this replica's workers may run."""
        now = clock()
        return self._is_turn(now) and self._area.left_to(EVERYTHING, now) is None

    def may_write(self, namespace: str) -> float:
        """Within how many seconds a write to the namespace has to be over that begins at this very moment. Raises NotLeading if
        this process must not begin one."""
        now = clock()
        if not self._is_turn(now):
            raise NotLeading(f"not leading, as the Lease is {self._whose(now)}")
        other = self._area.left_to(namespace, now)
        if other is not None:
            whom = "those who may still write there" if other == SOMEBODY else other
            raise NotLeading(f"namespace {namespace} is left to {whom}")
        return self._ends + self._lock.timing.slack - now

    def leaves(self, namespace: str) -> bool:
        """Whether this installation leaves a namespace to another, whoever leads; `changed` is called before that ends."""
        if namespace in self._left:
            return True
        if self._area.left_to(namespace, clock()) is not None:
            self._untold.add(namespace)
        return namespace in self._untold

    def state(self) -> tuple[bool, str]:
        """Whether this replica is fit for its part, and what that is, in a line."""
        now = clock()
        if self._lock.trouble:
            return False, self._lock.trouble
        if not self._lock.holds(now):
            return True, f"ok, waiting: the Lease is {self._whose(now)}{self._other_area()}"
        if self._leases.blind:
            return False, self._leases.blind
        is_any, words = self._area.state(now)
        if not is_any:
            return False, words
        return True, f"ok. {words}" if words else "ok"

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `lead` whenever it is this replica's turn, and cancel it when that is over. Ends when it ends by itself."""
        news = asyncio.Event()
        rounds = [asyncio.create_task(each(news)) for each in (self._keep_renewing, self._keep_looking)]
        term: asyncio.Task[None] | None = None
        since = self._lock.since
        try:
            while True:
                if term is not None and not (self.leads and self._lock.since == since):
                    # Also if it is ours again: others may have written meanwhile.
                    logger.warning("No longer leading: the Lease is %s", self._whose(clock()))
                    IS_LEADER.set(0)
                    await _cancel(term)
                    term = None
                if term is None and self.leads:
                    logger.info("Leading, as %s", self.identity)
                    IS_LEADER.set(1)
                    since, term = self._lock.since, asyncio.create_task(lead())
                news.clear()
                waiting = asyncio.create_task(news.wait())
                left = max(0.0, self._ends - clock()) if term else None
                tasks = {*rounds, waiting, *([term] if term is not None else ())}
                try:
                    await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                for task in (*rounds, term):
                    if task is not None and task.done():
                        return task.result()  # which is an exception
        finally:
            await self._step_down(term, *rounds)

    async def _step_down(self, term: asyncio.Task[None] | None, *rounds: asyncio.Task[None]) -> None:
        """Begin no write any more, wait for the answers of those that were begun, and only then let another begin."""
        self._ending = True
        IS_LEADER.set(0)
        await _cancel(*rounds)
        is_over = await self._writer.written(DRAIN_SECONDS)
        if term is not None:
            await _cancel(term)
            is_over = is_over and await self._writer.written(0)
        if is_over and self._lock.holds(clock()):
            await self._leases.give_back(self._lock)

    async def _keep_renewing(self, news: asyncio.Event) -> None:
        while True:
            pause = await self._renew()
            self._tell()
            news.set()
            await asyncio.sleep(pause)

    async def _keep_looking(self, news: asyncio.Event) -> None:
        while True:
            pause = await self._look()
            self._tell()
            news.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), pause)

    async def _renew(self) -> float:
        """Renew the Lease, or look whether it may be had; seconds until the next time."""
        held = self._lock.holds(clock())
        is_well = await self._leases.renew_or_take(self._lock)
        if not self._lock.holds(clock()):
            return FOLLOWERS_SECONDS
        if not held:
            self._look_now.set()
        return self._lock.timing.retry if is_well else AGAIN_SECONDS

    async def _look(self) -> float:
        """Look at the other installations; seconds until the next time."""
        self._look_now.clear()
        leads = self._lock.holds(clock())
        await self._area.look(leads)
        return self._lock.timing.retry if leads else FOLLOWERS_LOOK_SECONDS

    def _tell(self) -> None:
        """Say what has changed of what is left to others."""
        now = clock()
        leads = self._lock.holds(now)
        before, self._left = self._left, dict(self._area.left(now)) if leads else {}
        untold, self._untold = self._untold - before.keys() - self._left.keys(), set()
        for where, other in before.items() - self._left.items():
            if other != SOMEBODY:
                LEFT_TO_OTHERS.remove(where, other)
            if where not in self._left and leads:
                logger.info("Nobody else looks after %s any more", where or "the cluster")
                self._changed(where)
        for where, other in self._left.items() - before.items():
            if where not in before:
                self._changed(where)
            if other != SOMEBODY:
                LEFT_TO_OTHERS.labels(where, other).set(1)
                logger.warning("%s", self._area.reason(where, other))
        for where in untold if leads else ():
            self._changed(where)

    @property
    def _ends(self) -> float:
        """When this replica is no longer the leader, or knows too little of the other installations, unless it asks anew."""
        return min(self._lock.ends, self._area.ends)

    def _is_turn(self, now: float) -> bool:
        return not self._ending and now < self._ends

    def _other_area(self) -> str:
        """What the leader looks after, if it is told other namespaces than we are: for a while, a new configuration's doing."""
        ours = self._annotations[SCOPE_ANNOTATION]
        written = ((self._lock.lease or {}).get("metadata") or {}).get("annotations") or {}
        theirs = written.get(SCOPE_ANNOTATION, ours)
        if theirs == ours:
            return ""
        return f", who is configured to look after {theirs}, and this one {ours} (* is all namespaces)"

    def _whose(self, now: float) -> str:
        if self._lock.holder != self.identity:
            return f"{self._lock.holder}'s" if self._lock.holder else "nobody's"
        return "ours" if self._is_turn(now) else "ours, and was not renewed in time"


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
