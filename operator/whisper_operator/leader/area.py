"""What an installation looks after, and what of that it leaves to others: installations that overlap would undo each other's
work for ever, and each write to a pod template restarts a GPU pod."""

import asyncio
import math
from collections.abc import Collection
from typing import Protocol

from whisper_operator.leader.installations import (
    CLAIM,
    LEADER,
    MARKS,
    THERE_SECONDS,
    Installations,
    account,
)
from whisper_operator.leader.leases import Leases, clock
from whisper_operator.leader.lock import Lock, Timing

CLAIM_TIMING = Timing(lease=THERE_SECONDS, renew=240.0, retry=60.0)
STOPS_SECONDS = Timing().lease
"""By when one has stopped that has to, once its rival's Lease is there: an old look lets it write no longer than an old Lease."""
BELIEVED_SECONDS = 60.0
"""From one look at a true rival's rights to the next."""
DISBELIEVED_SECONDS = STOPS_SECONDS / 2
"""And at those of one that has none: its Lease may have been there before its rights."""
BLINK_SECONDS = 60.0
"""The longest time between two looks in which a junior can't have taken us for gone and have begun."""
EVERYTHING = ""
"""In place of a namespace."""
SOMEBODY = ""
"""In place of an installation, as no Lease's holder can be called: one that has not noticed us yet may still be writing, or which
it is can't be told now."""

Left = dict[str, str]
"""By namespace, or EVERYTHING, the installation that it is left to."""


class Area(Protocol):
    """What a replica knows of it. Followers look too, so that the next leader knows who has been gone for long, and who has
    stopped already."""

    async def look(self, leads: bool) -> None:
        """Find out what is left to others from now on. `leads`: our Lease is ours now."""

    @property
    def ends(self) -> float:
        """When what is known of the others is too old to write by."""

    def left_to(self, namespace: str, now: float) -> str | None:
        """The installation, or SOMEBODY, that it or EVERYTHING is left to; None: it is ours. Our own Lease is another matter."""

    def left(self, now: float) -> Left:
        """All that is left to others."""

    def state(self, now: float) -> tuple[bool, str]:
        """Whether anything is left for us, and for people, what is not and why."""

    def reason(self, namespace: str, other: str) -> str:
        """For people, why it is left to another installation."""


class WholeCluster:
    """Every namespace but those that an installation for some has claimed; nothing, if another for all was there before."""

    def __init__(self, leases: Leases, namespace: str, lock: Lock) -> None:
        self._leases = leases
        self._lock = lock
        self._others = Installations(namespace)
        self._reviewed: dict[tuple[str, str], tuple[float, bool]] = {}
        """By the account that a rival says it has: until when it counts, and whether that may write everywhere."""
        self._looked = -math.inf
        """When the last look began."""
        self._present: set[str] = set()
        """Where rivals' Leases were, true or not."""
        self._juniors: dict[str, float] = {}
        """Those that stop for us, and since when they do."""
        self._senior: str | None = None
        self._claims: dict[str, str] = {}
        self._begins = -math.inf
        """When all juniors have stopped."""

    async def look(self, leads: bool) -> None:
        asked = clock()
        found = await self._leases.others()
        if found is None:
            return
        self._others.see(found, clock())
        rivals = self._others.rivals(clock())
        true = await self._true({account(each) for each in rivals})
        now, own = clock(), self._lock.lease
        blinked = asked > self._looked + BLINK_SECONDS
        juniors: dict[str, float] = {}
        self._senior = None
        if own is not None:
            self._senior = self._others.senior(own, now, lambda lease: account(lease) in true)
            known = {} if blinked else self._juniors
            for each in self._others.juniors(own, now, lambda lease: account(lease) in true):
                # One that comes while we write has seen our Lease before it could begin.
                is_late = leads and not blinked and each not in self._present
                juniors[each] = known.get(each, -math.inf if is_late else now)
        self._juniors, self._present = juniors, {account(each)[0] for each in rivals}
        self._begins = max(juniors.values(), default=-math.inf) + STOPS_SECONDS
        self._claims = self._others.claims(now)
        self._looked = asked

    async def _true(self, accounts: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those with the rights of an installation for the whole cluster: a Lease alone may be made up by whoever may write in
        its namespace. Who can't be asked about counts as what was known, or else as one, for this once."""
        now = clock()
        known = {each: self._reviewed[each] for each in accounts if each in self._reviewed}
        due = [each for each in accounts if each not in known or now >= known[each][0]]
        for each, is_one in zip(due, await self._leases.may_write_everywhere(due), strict=True):
            if is_one is not None:
                known[each] = clock() + (BELIEVED_SECONDS if is_one else DISBELIEVED_SECONDS), is_one
        self._reviewed = known
        return {each for each in accounts if each not in known or known[each][1]}

    @property
    def ends(self) -> float:
        # In this term: our own Lease's age is known only once we have it.
        return self._looked + self._lock.timing.renew if self._looked >= self._lock.since else -math.inf

    def left_to(self, namespace: str, now: float) -> str | None:
        if self._senior is not None:
            return self._senior
        return SOMEBODY if now < self._begins else self._claims.get(namespace)

    def left(self, now: float) -> Left:
        everything = self.left_to(EVERYTHING, now)
        return self._claims if everything is None else {EVERYTHING: everything}

    def state(self, now: float) -> tuple[bool, str]:
        known = {each: other for each, other in self.left(now).items() if other != SOMEBODY}
        return EVERYTHING not in known, ". ".join(self.reason(*each) for each in sorted(known.items()))

    def reason(self, namespace: str, other: str) -> str:
        if namespace != EVERYTHING:
            return _reason(namespace, other)
        return (
            f"Another installation, in namespace {other}, looks after the whole cluster too and was there first: this one writes "
            f"nothing. Remove one of them; if that one is gone already, kubectl delete lease -n {other} {LEADER}"
        )


class SomeNamespaces:
    """Those that it is told and has a claim on."""

    def __init__(self, leases: Leases, namespace: str, namespaces: Collection[str]) -> None:
        self._leases = leases
        self._claims = {
            each: Lock(each, CLAIM, namespace, CLAIM_TIMING, labels=MARKS, shared=True) for each in namespaces
        }

    async def look(self, leads: bool) -> None:
        if leads:  # the claims are the installation's, not a replica's
            await asyncio.gather(*map(self._leases.renew_or_take, self._claims.values()))

    @property
    def ends(self) -> float:
        return math.inf  # each claim has an end of its own

    def left_to(self, namespace: str, now: float) -> str | None:
        if namespace == EVERYTHING:
            return None  # each by itself
        claim = self._claims.get(namespace)
        if claim is None:
            return SOMEBODY
        if not claim.holds(now):
            return SOMEBODY if claim.holder in ("", claim.identity) else claim.holder
        return SOMEBODY if now < claim.gained + STOPS_SECONDS else None

    def left(self, now: float) -> Left:
        found = {each: self.left_to(each, now) for each in self._claims}
        return {each: other for each, other in found.items() if other is not None}

    def state(self, now: float) -> tuple[bool, str]:
        lost = {each: self.reason(each, other) for each, other in self.left(now).items() if other != SOMEBODY}
        lost |= {each: claim.trouble for each, claim in self._claims.items() if claim.trouble}
        return len(lost) < len(self._claims), ". ".join(lost[each] for each in sorted(lost))

    def reason(self, namespace: str, other: str) -> str:
        return _reason(namespace, other)


def _reason(namespace: str, other: str) -> str:
    return (
        f"Another installation, in namespace {other}, looks after namespace {namespace}: this one writes nothing there. "
        f"If that one is gone already, kubectl delete lease -n {namespace} {CLAIM}"
    )
