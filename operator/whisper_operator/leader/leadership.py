"""Who writes: of an installation's replicas, the one that holds its Lease.

All of them watch and list, so that the next one is ready. Only the leader's workers run, and before each write it is asked here
once more: a process that was stopped for a while, or can't reach the API server, knows by its own clock that its time is over.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from prometheus_client import Gauge

from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import NotLeading
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.leader.installations import LEADER, MARKS, SCOPE_ANNOTATION
from whisper_operator.leader.leases import Leases, clock
from whisper_operator.leader.lock import Lock
from whisper_operator.leader.scope import EVERYTHING, Left, Scope, SomeNamespaces, WholeCluster, marks_of

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""From one look of a follower to the next: the most that a Lease which was given back waits for it."""
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
    ) -> None:
        """`leases`: a connection of its own; `writer`: what all else is written by. `namespace`: the installation's own;
        `namespaces`: those that it looks after, or none for all. `changed` is called
        with one that is left to others from now on, or no longer ("": all are)."""
        self.identity = f"{os.environ.get('HOSTNAME') or os.uname().nodename}_{uuid.uuid4()}"
        self._leases = Leases(leases)
        self._writer = writer
        self._changed = changed
        self._marks = marks_of(namespaces)
        self._lock = Lock(namespace, LEADER, self.identity, labels=MARKS, annotations=self._marks)
        self._scope: Scope = (
            SomeNamespaces(self._leases, namespace, namespaces)
            if namespaces
            else WholeCluster(self._leases, namespace, self._lock)
        )
        self._ending = False
        self._left: Left = {}
        """As was last told."""
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
        return self._is_turn(now) and EVERYTHING not in self._scope.left(now)

    def may_write(self, namespace: str) -> None:
        """Raises NotLeading unless this process may write to the namespace at this very moment."""
        now = clock()
        if not self._is_turn(now):
            raise NotLeading(f"not leading, as the Lease is {self._whose(now)}")
        other = self._scope.left_to(namespace, now)
        if other is not None:
            raise NotLeading(f"namespace {namespace} is left to {other or 'those who may still write there'}")

    def leaves(self, namespace: str) -> bool:
        """Whether this installation leaves a namespace to another."""
        return self._scope.left_to(namespace, clock()) is not None

    def state(self) -> tuple[bool, str]:
        """Whether this replica is fit for its part, and what that is, in a line."""
        if troubles := self._leases.troubles:
            return False, ". ".join(f"can't have {what}: {why}" for what, why in troubles.items())
        now, left = clock(), {where: other for where, other in self._left.items() if other}
        if not self._lock.holds(now):
            return True, f"ok, waiting: the Lease is {self._whose(now)}{self._other_scope()}"
        if not left:
            return True, "ok"
        is_any, reason = self._scope.reason(left)
        return is_any, f"ok. {reason}" if is_any else reason

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `lead` whenever it is this replica's turn, and cancel it when that is over. Ends when it ends by itself."""
        news = asyncio.Event()
        rounds = asyncio.create_task(self._rounds(news))
        term: asyncio.Task[None] | None = None
        try:
            while True:
                if term is None and self.leads:
                    logger.info("Leading, as %s", self.identity)
                    IS_LEADER.set(1)
                    term = asyncio.create_task(lead())
                elif term is not None and not self.leads:
                    logger.warning("No longer leading: the Lease is %s", self._whose(clock()))
                    IS_LEADER.set(0)
                    await _cancel(term)
                    term = None
                news.clear()
                waiting = asyncio.create_task(news.wait())
                left = max(0.0, min(self._lock.ends, self._scope.ends) - clock()) if term else None
                tasks = {rounds, waiting, *([term] if term is not None else ())}
                try:
                    await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                for task in (rounds, term):
                    if task is not None and task.done():
                        return task.result()  # which is an exception
        finally:
            await self._step_down(term, rounds)

    async def _step_down(self, term: asyncio.Task[None] | None, rounds: asyncio.Task[None]) -> None:
        """Begin no write any more, wait for the answers of those that were begun, and only then let another begin."""
        self._ending = True
        IS_LEADER.set(0)
        await _cancel(rounds)
        is_over = term is None or await self._writer.written(DRAIN_SECONDS)
        if term is not None:
            await _cancel(term)
        if is_over and self._lock.holds(clock()):
            await self._leases.give_back(self._lock)

    async def _rounds(self, news: asyncio.Event) -> None:
        """Renew what is ours, and look whether what is not may be had."""
        while True:
            if self._lock.holds(clock()):  # at once, so that one that hangs takes no time from the other
                is_well, _ = await asyncio.gather(self._leases.turn(self._lock), self._scope.look())
            else:
                is_well = await self._leases.turn(self._lock)
                if self._lock.holds(clock()):
                    await self._scope.look()
            self._tell()
            news.set()
            is_well = is_well and self._lock.holds(clock())
            await asyncio.sleep(self._lock.timing.retry if is_well else LOOK_SECONDS)

    def _tell(self) -> None:
        """Say what has changed of what is left to others."""
        now = clock()
        before, self._left = self._left, self._scope.left(now) if self._lock.holds(now) else {}
        for where, other in before.items() - self._left.items():
            if other:
                LEFT_TO_OTHERS.remove(where, other)
            if where not in self._left and self._lock.holds(now):
                logger.info("Nobody else looks after %s any more", where or "the cluster")
                self._changed(where)
        for where, other in self._left.items() - before.items():
            if where not in before:
                self._changed(where)
            if other:
                LEFT_TO_OTHERS.labels(where, other).set(1)
                logger.warning("%s", self._scope.reason({where: other})[1])

    def _is_turn(self, now: float) -> bool:
        return not self._ending and self._lock.holds(now) and now < self._scope.ends

    def _other_scope(self) -> str:
        """What the leader looks after, if it is told other namespaces than we are: for a while, a new configuration's doing."""
        annotations = ((self._lock.lease or {}).get("metadata") or {}).get("annotations") or {}
        theirs = annotations.get(SCOPE_ANNOTATION, self._marks[SCOPE_ANNOTATION])
        if theirs == self._marks[SCOPE_ANNOTATION]:
            return ""
        return f", who is configured to look after {theirs}, and this one {self._marks[SCOPE_ANNOTATION]} (* is all namespaces)"

    def _whose(self, now: float) -> str:
        if self._lock.holder != self.identity:
            return f"{self._lock.holder}'s" if self._lock.holder else "nobody's"
        return "ours" if self._is_turn(now) else "ours, and was not renewed in time"


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
