"""A queue of keys to reconcile: no key twice at a time, no key by two workers at once, failed keys again later.

The contract is that of client-go's workqueue: a key added while it waits is the same entry; one added while it is being worked
on is worked on once more afterwards. So a thousand events about one endpoint cost one or two reconciliations, none is lost, and a
broken endpoint never slows another; nor do namespaces of them. What it costs does not depend on how many keys wait.
"""

import asyncio
import logging
import random
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from whisper_operator.kube.errors import Retry
from whisper_operator.kube.metrics import REGISTRY

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_DELAY = 0.2
LONGEST_DELAY = 300.0

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ADDS = Counter("whisper_operator_workqueue_adds", "Endpoints put on the queue.", registry=REGISTRY)
DEPTH = Gauge("whisper_operator_workqueue_depth", "Endpoints that wait for a worker.", registry=REGISTRY)
ACTIVE = Gauge("whisper_operator_workqueue_active", "Endpoints that are with a worker.", registry=REGISTRY)
RETRIES = Counter(
    "whisper_operator_workqueue_retries", "Endpoints to be tried again after a failure.", registry=REGISTRY
)
FAILING = Gauge(
    "whisper_operator_workqueue_failing",
    "Endpoints whose last try failed, and that back off.",
    registry=REGISTRY,
)
QUEUE_SECONDS = Histogram(
    "whisper_operator_workqueue_queue_duration_seconds",
    "How long an endpoint waited for a worker.",
    buckets=SECONDS,
    registry=REGISTRY,
)
WORK_SECONDS = Histogram(
    "whisper_operator_workqueue_work_duration_seconds",
    "How long a worker had an endpoint, its writes included.",
    buckets=SECONDS,
    registry=REGISTRY,
)


class _Line(Generic[K]):
    """Keys that wait, in the order in which they came, and since when."""

    def __init__(self) -> None:
        self.high: OrderedDict[K, float] = OrderedDict()
        self.low: OrderedDict[K, float] = OrderedDict()
        """Those that wait for the others as well."""

    def __len__(self) -> int:
        return len(self.high) + len(self.low)

    def __contains__(self, key: K) -> bool:
        return key in self.high or key in self.low

    def take(self) -> tuple[K, float, bool]:
        """The next one, since when it waits, and whether it is of low priority."""
        is_low = not self.high
        return *(self.low if is_low else self.high).popitem(last=False), is_low


class WorkQueue(Generic[K]):
    """Call everything from one event loop."""

    def __init__(self, group: Callable[[K], Hashable] = lambda key: key) -> None:
        """`group`: keys of one get half of the workers that those of others leave, so that some that hang leave one to the
        next."""
        self._group = group
        self._ready = _Line[K]()
        self._waiting = asyncio.Semaphore(0)
        """As many as there are keys in it."""
        self._parked: dict[Hashable, _Line[K]] = {}
        """Keys whose turn came when their group had all the workers that it may have, by group."""
        self._busy = defaultdict[Hashable, int](int)
        """How many workers each group has."""
        self._active: dict[K, bool] = {}
        """Keys with a worker, and whether they are of low priority."""
        self._urgent = 0
        """How many of those are not."""
        self._again: dict[K, bool] = {}
        """Keys to be worked on once more when their worker is done, likewise."""
        self._workers = 1
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._closed = False

    def close(self) -> None:
        """Forget all that waits, and take in nothing until opened: nobody works on it."""
        self._closed = True
        for key in list(self._timers):
            self._cancel_timer(key)
        self._ready, self._waiting = _Line[K](), asyncio.Semaphore(0)
        for memory in (self._parked, self._again, self._failures):
            memory.clear()

    def open(self) -> None:
        """Take in what comes from now on."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready) + sum(map(len, self._parked.values()))

    @property
    def active(self) -> int:
        """Keys that are with a worker."""
        return len(self._active)

    @property
    def failing(self) -> int:
        """Keys whose last try failed, and that are tried again."""
        return len(self._failures)

    def backlogged(self, key: K) -> bool:
        """Whether there is another key, waiting for a worker or with one, that is not of low priority. Those that wait for one of
        another group's don't count."""
        lines = [line.high for line in (self._ready, self._parked.get(self._group(key))) if line is not None]
        own = sum(key in line for line in lines) + (self._active.get(key) is False)
        return sum(map(len, lines)) + self._urgent > own

    def add(self, key: K, *, low_priority: bool = False) -> None:
        """Have the key worked on as soon as a worker is free; `low_priority`: and no key waits that was added without it."""
        if self._closed:
            return
        self._cancel_timer(key)
        if key in self._active:
            self._again[key] = low_priority and self._again.get(key, True)
            return
        parked = self._parked.get(self._group(key))
        line = parked if parked is not None and key in parked else self._ready
        if key in line.high or (low_priority and key in line.low):
            return
        ADDS.inc()
        since = line.low.pop(key, None)
        if since is None:
            self._waiting.release()
        (line.low if low_priority else line.high)[key] = since or time.perf_counter()

    def add_after(self, key: K, delay: float) -> None:
        """Have the key worked on in `delay` seconds, or earlier if it is added earlier."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + delay:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(delay, partial(self.add, key, low_priority=True))

    async def work(self, workers: int, job: Callable[[K], Awaitable[float | None]]) -> None:
        """Run `job` on keys until cancelled. What it returns is the number of seconds until the key's next look, or None."""
        self._workers = workers
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker(job))

    async def _worker(self, job: Callable[[K], Awaitable[float | None]]) -> None:
        while True:
            await self._waiting.acquire()
            key, since, low_priority = self._ready.take()
            group = self._group(key)
            if self._room(group) < 1:
                line = self._parked.setdefault(group, _Line())
                (line.low if low_priority else line.high)[key] = since
                continue
            self._busy[group] += 1
            start = time.perf_counter()
            QUEUE_SECONDS.observe(start - since)
            self._active[key] = low_priority
            self._urgent += not low_priority
            try:
                await self._run(job, key)
            finally:
                del self._active[key]
                self._urgent -= not low_priority
                WORK_SECONDS.observe(time.perf_counter() - start)
                self._done(group)
            if key in self._again:
                self.add(key, low_priority=self._again.pop(key))

    def _room(self, group: Hashable) -> int:
        """How many workers more the group may have now."""
        busy = self._busy.get(group, 0)
        left_by_others = self._workers - (len(self._active) - busy)
        return max(1, left_by_others // 2) - busy

    def _done(self, group: Hashable) -> None:
        """A worker of the group's is free: the next of its keys that had to wait for one come first. More than one where others
        have left some since."""
        self._busy[group] -= 1
        if not self._busy[group]:
            del self._busy[group]
        parked = self._parked.get(group, _Line[K]())
        back = [parked.take() for _ in range(min(self._room(group), len(parked)))]
        if not parked:
            self._parked.pop(group, None)
        for key, since, low_priority in reversed(back):
            line = self._ready.low if low_priority else self._ready.high
            line[key] = since
            line.move_to_end(key, last=False)
            self._waiting.release()

    async def _run(self, job: Callable[[K], Awaitable[float | None]], key: K) -> None:
        try:
            next_look = await job(key)
        except Retry as reason:
            delay = max(min(self._back_off(key), reason.within), reason.after)
            logger.info("Trying again in %.1f s: %s", delay, reason, extra={"endpoint": key})
            self.add_after(key, delay)
        except Exception:
            delay = self._back_off(key)
            logger.exception("Reconciling failed; trying again in %.1f s", delay, extra={"endpoint": key})
            self.add_after(key, delay)
        else:
            self._failures.pop(key, None)
            if next_look is not None:
                self.add_after(key, next_look)

    def _back_off(self, key: K) -> float:
        """0.2 s, doubled with each failure in a row up to 5 minutes, and spread so that keys don't come back as a herd."""
        RETRIES.inc()
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest = min(FIRST_DELAY * 2.0 ** min(failures, 30), LONGEST_DELAY)
        return longest * random.uniform(0.5, 1.0)

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
