"""Whose turn it is: work is shared out by what it costs, so that nobody waits for another's pile."""

from collections import deque
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_KNOWN = 4096
"""Owners without items whose use is remembered."""


class FairQueue(Generic[T]):
    """Items of many owners: the one who has used least comes first, and of each owner's piles, such as files, each in turn.

    Who comes back after a pause starts level with those who are there, without a credit. This is start-time fair
    queueing, with costs that are known only afterwards, and with a share of them counted for who waits: else a stream of owners
    who come for the first time would keep all others waiting for ever.
    """

    def __init__(self) -> None:
        self._piles: dict[Hashable, dict[Hashable, deque[T]]] = {}
        """By owner, its piles that are not empty, in the order of their turns."""
        self._length = 0
        self._used: dict[Hashable, float] = {}
        self._now = 0.0
        """Where owners begin who come: at the least that those had used who were served and wait again."""
        self._total = 0.0
        """What all have used."""
        self._since: dict[Hashable, float] = {}
        """By owner of items, what that was when the owner began to wait: at the first item, or when served last."""
        self._stayed: set[Hashable] = set()
        """Owners of items who were served since the first of these came."""

    def __len__(self) -> int:
        """How many items there are; may be asked from any thread."""
        return self._length

    def owners(self) -> Collection[Hashable]:
        """Whose items there are."""
        return self._piles.keys()

    def push(self, owner: Hashable, pile: Hashable, item: T) -> None:
        if owner not in self._piles:
            self._piles[owner] = {}
            self._since[owner] = self._total
            self._used[owner] = max(self._now, self._used.get(owner, 0.0))
        self._piles[owner].setdefault(pile, deque()).append(item)
        self._length += 1

    def pop(self, may: Callable[[Hashable], bool] = lambda owner: True) -> T:
        """The next item of the owners that `may` have one; raises ValueError if there is none."""
        owner = min(filter(may, self._piles), key=self._turn)
        # Not at what this one has used: whoever was charged much at once would hold back all who come, behind the others' piles.
        self._now = max(self._now, min(self._used[each] for each in {owner, *self._stayed}))
        piles = self._piles[owner]
        pile = next(iter(piles))
        items = piles.pop(pile)
        item = items.popleft()
        if items:
            piles[pile] = items  # behind the others
        if piles:
            self._since[owner] = self._total
            self._stayed.add(owner)
        else:
            self._forget(owner)
        self._length -= 1
        return item

    def _turn(self, owner: Hashable) -> float:
        """What the owner has used, less its share of what was used while it waited: the least comes first."""
        return self._used[owner] - (self._total - self._since[owner]) / len(self._piles)

    def _forget(self, owner: Hashable) -> None:
        """There are no more items of the owner."""
        del self._piles[owner], self._since[owner]
        self._stayed.discard(owner)

    def discard(self, pile: Hashable) -> None:
        """Take out all of a pile."""
        for owner, piles in list(self._piles.items()):
            self._length -= len(piles.pop(pile, ()))
            if not piles:
                self._forget(owner)

    def charge(self, owner: Hashable, cost: float) -> None:
        """Note what an item of the owner's turned out to cost."""
        self._used[owner] = self._used.get(owner, 0.0) + cost
        self._total += cost
        if len(self._used) > MOST_KNOWN:
            self._tidy()

    def _tidy(self) -> None:
        """Owners come and go: those that are level with everybody need no memory, and of too many others, who have used least."""
        known = {
            owner: used for owner, used in self._used.items() if owner in self._piles or used > self._now
        }
        if len(known) > MOST_KNOWN // 2:
            away = sorted((owner for owner in known if owner not in self._piles), key=known.__getitem__)
            for owner in away[: len(known) - MOST_KNOWN // 2]:
                del known[owner]
        self._used = known
