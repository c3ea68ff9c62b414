"""A queue of keys to reconcile: no key twice at a time, no key by two workers at once, failed keys again later.

The contract is that of client-go's workqueue: a key added while it waits is the same entry; one added while it is being worked
on is worked on once more afterwards. So a thousand events about one endpoint cost one or two reconciliations, none is lost, and a
broken endpoint never slows another.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from whisper_operator.kube.errors import Retry

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_DELAY = 0.2
LONGEST_DELAY = 300.0


class WorkQueue(Generic[K]):
    """Call everything from one event loop."""

    def __init__(self) -> None:
        self._waiting: asyncio.PriorityQueue[tuple[bool, int, K]] = asyncio.PriorityQueue()
        self._number = itertools.count()
        self._queued: dict[K, bool] = {}
        """Keys that wait, and whether they may wait for others."""
        self._active: dict[K, bool] = {}
        """Keys with a worker, likewise."""
        self._again: dict[K, bool] = {}
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker or are with one."""
        return len(self._queued) + len(self._active)

    @property
    def failing(self) -> int:
        """Keys whose last try failed, and that are tried again."""
        return len(self._failures)

    def is_pressed(self, key: K) -> bool:
        """Whether there is another key that should not wait."""
        others = (
            later
            for each, later in itertools.chain(self._queued.items(), self._active.items())
            if each != key
        )
        return not all(others)

    def add(self, key: K, *, later: bool = False) -> None:
        """Have the key worked on as soon as a worker is free; `later`: and no key waits that was added without it."""
        self._cancel_timer(key)
        if key in self._active:
            self._again[key] = later and self._again.get(key, True)
        elif later < self._queued.get(key, 2):
            self._queued[key] = later
            self._waiting.put_nowait((later, next(self._number), key))

    def add_after(self, key: K, delay: float) -> None:
        """Have the key worked on in `delay` seconds, or earlier if it is added earlier."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + delay:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(delay, partial(self.add, key, later=True))

    async def work(self, workers: int, job: Callable[[K], Awaitable[float | None]]) -> None:
        """Run `job` on keys until cancelled. What it returns is the number of seconds until the key's next look, or None."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker(job))

    async def _worker(self, job: Callable[[K], Awaitable[float | None]]) -> None:
        while True:
            later, _, key = await self._waiting.get()
            if self._queued.get(key) is not later:
                continue  # its turn came, or comes, by another entry
            del self._queued[key]
            self._active[key] = later
            try:
                await self._run(job, key)
            finally:
                del self._active[key]
            if key in self._again:
                self.add(key, later=self._again.pop(key))

    async def _run(self, job: Callable[[K], Awaitable[float | None]], key: K) -> None:
        try:
            next_look = await job(key)
        except Retry as reason:
            delay = self._back_off(key)
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
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest = min(FIRST_DELAY * 2.0 ** min(failures, 30), LONGEST_DELAY)
        return longest * random.uniform(0.5, 1.0)

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
