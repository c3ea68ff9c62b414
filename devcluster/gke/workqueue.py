"""A queue of keys: each waits in it once, is worked on by one worker at a time, and comes back later if asked or if it failed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

Job = tuple[str, tuple[str, str]]
"""What to do, and the namespace and name of the object to do it for: the key."""

Work = Callable[[Job], Awaitable[float | None]]

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0


class Retry(Exception):
    """Work on a key failed in a way that time or a change may mend; it has been reported already."""


class WorkQueue:
    """`work(key)` is awaited for each key; it returns in how many seconds to look again (None: not before a change)."""

    def __init__(self, work: Work, failed: Callable[[Job, Exception], None]) -> None:
        self._work = work
        self._failed = failed
        self._ready: asyncio.Queue[Job] = asyncio.Queue()
        self._waiting: set[Job] = set()
        self._busy: set[Job] = set()
        self._again: set[Job] = set()
        self._timers: dict[Job, asyncio.TimerHandle] = {}
        self._failures: Counter[Job] = Counter()

    def add(self, key: Job) -> None:
        """Have `key` worked on soon; once more if that is going on already."""
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Job, seconds: float) -> None:
        """Have `key` worked on in so many seconds, or earlier if that was asked before."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._due, key)

    async def run(self, workers: int) -> None:
        """Work for ever, on so many keys at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._run())

    def _due(self, key: Job) -> None:
        del self._timers[key]
        self.add(key)

    async def _run(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._busy.add(key)
            try:
                look_again = await self._work(key)
            except Exception as error:  # whatever it was: the others go on
                self._failed(key, error)
                self._failures[key] += 1
                # 2 to a much larger power is no number of seconds at all.
                doublings = min(self._failures[key] - 1, 30)
                look_again = min(FIRST_DELAY * 2**doublings, LONGEST_DELAY)
            else:
                del self._failures[key]
            self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            if look_again is not None:
                self.add_after(key, look_again)
