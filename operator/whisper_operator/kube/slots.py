"""How many requests are made at a time: of all, and of each namespace, so that one whose requests hang holds up no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from weakref import WeakValueDictionary

IN_FLIGHT = 16
"""Requests at a time, of all and of each namespace: more would only wait in the API server, which then turns them away."""
SLOW_SECONDS = 1.0
"""A request that takes longer waits for something else, such as a namespace's admission webhook; others don't wait for that."""
SLOW = 3 * IN_FLIGHT
"""Requests that others don't wait for, at the most: where all are slow, it is the API server, and has enough to do."""


class Slots:
    def __init__(self) -> None:
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._slow = 0
        self._of_namespaces = WeakValueDictionary[str, asyncio.Semaphore]()
        """As many for each, as long as any request of it is under way."""

    @asynccontextmanager
    async def one(self, share: str) -> AsyncIterator[None]:
        """Wait for one of the namespace's and one of everybody's slots, and give that one back once it is slow."""
        of_namespace = self._of_namespaces.setdefault(share, asyncio.Semaphore(IN_FLIGHT))
        async with of_namespace:
            await self._in_flight.acquire()
            slot = ExitStack()
            slot.callback(self._in_flight.release)  # once, whoever closes it first
            timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._give_back, slot)
            try:
                yield
            finally:
                timer.cancel()
                slot.close()

    def _give_back(self, slot: ExitStack) -> None:
        """Take the slot for one of the slow, if there is one."""
        if self._slow < SLOW:
            slot.close()
            self._slow += 1
            slot.callback(self._no_longer_slow)

    def _no_longer_slow(self) -> None:
        self._slow -= 1
