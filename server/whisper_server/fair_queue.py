"""Whose turn it is: work is shared out by what it costs, so that nobody waits for another's pile."""

from collections import deque
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of many owners: the one who has used least comes first, and of each owner's piles, such as files, each in turn.

    Who comes back after a pause starts level with those who are there, without a credit. This is start-time fair
    queueing, with costs that are known only afterwards.
    """

    def __init__(self) -> None:
        self._piles: dict[Hashable, dict[Hashable, deque[T]]] = {}
        """By owner, its piles that are not empty, in the order of their turns."""
        self._length = 0
        self._used: dict[Hashable, float] = {}
        self._now = 0.0
        """What the owner served last had used."""

    def __len__(self) -> int:
        """How many items there are; may be asked from any thread."""
        return self._length

    def owners(self) -> Collection[Hashable]:
        """Whose items there are."""
        return self._piles.keys()

    def push(self, owner: Hashable, pile: Hashable, item: T) -> None:
        if owner not in self._piles:
            self._piles[owner] = {}
            self._used[owner] = max(self._now, self._used.get(owner, 0.0))
        self._piles[owner].setdefault(pile, deque()).append(item)
        self._length += 1

    def pop(self, may: Callable[[Hashable], bool] = lambda owner: True) -> T:
        """The next item of the owners that `may` have one; raises ValueError if there is none."""
        owner = min(filter(may, self._piles), key=lambda owner: self._used[owner])
        self._now = self._used[owner]
        piles = self._piles[owner]
        pile = next(iter(piles))
        items = piles.pop(pile)
        item = items.popleft()
        if items:
            piles[pile] = items  # behind the others
        elif not piles:
            del self._piles[owner]
        self._length -= 1
        return item

    def discard(self, pile: Hashable) -> None:
        """Take out all of a pile."""
        for owner, piles in list(self._piles.items()):
            self._length -= len(piles.pop(pile, ()))
            if not piles:
                del self._piles[owner]

    def charge(self, owner: Hashable, cost: float) -> None:
        """Note what an item of the owner's turned out to cost."""
        self._used[owner] = self._used.get(owner, 0.0) + cost
        if len(self._used) > 4096:  # owners come and go; those that are level with everybody need no memory
            self._used = {
                known: used for known, used in self._used.items() if known in self._piles or used > self._now
            }
