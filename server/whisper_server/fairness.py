"""Whose turn it is: work is shared out by what it costs, so that nobody waits for another's pile."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Items of many owners: the one who has used least comes first, and each owner's items in the order they came.

    Who comes back after a pause starts level with those who are there, neither with a credit nor with a debt. This is
    start-time fair queueing, with costs that are known only afterwards.
    """

    def __init__(self) -> None:
        self._items: dict[Hashable, deque[T]] = {}
        self._used: dict[Hashable, float] = {}
        self._now = 0.0
        """What the owner served last had used."""

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def push(self, owner: Hashable, item: T) -> None:
        if owner not in self._items:
            self._items[owner] = deque()
            self._used[owner] = max(self._now, self._used.get(owner, 0.0))
        self._items[owner].append(item)

    def pop(self) -> T:
        """The next item; raises ValueError if there is none."""
        owner = min(self._items, key=lambda owner: self._used[owner])
        self._now = self._used[owner]
        item = self._items[owner].popleft()
        if not self._items[owner]:
            del self._items[owner]
        return item

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Take out every item of which `unwanted` is true."""
        for owner, items in list(self._items.items()):
            kept = deque(item for item in items if not unwanted(item))
            if kept:
                self._items[owner] = kept
            else:
                del self._items[owner]

    def charge(self, owner: Hashable, cost: float) -> None:
        """Note what an item of the owner's turned out to cost."""
        self._used[owner] = self._used.get(owner, 0.0) + cost
        if len(self._used) > 4096:  # owners come and go; those that are level with everybody need no memory
            self._used = {
                known: used for known, used in self._used.items() if known in self._items or used > self._now
            }
