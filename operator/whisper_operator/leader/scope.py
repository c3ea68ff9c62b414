"""What an installation looks after, and what of that it leaves to others: installations that overlap would undo each other's
work for ever, and each write to a pod template restarts a GPU pod."""

import asyncio
import math
from collections.abc import Collection
from typing import Protocol

from whisper_operator.kube.objects import Raw
from whisper_operator.leader.installations import (
    ALL,
    CLAIM,
    LEADER,
    MARKS,
    SCOPE_ANNOTATION,
    STOPS_SECONDS,
    THERE_SECONDS,
    Installations,
    is_rival,
)
from whisper_operator.leader.leases import Leases, clock
from whisper_operator.leader.lock import Lock, Timing

CLAIM_TIMING = Timing(lease=THERE_SECONDS, renew=240.0, retry=60.0)
REVIEW_SECONDS = 60.0
"""From one look at a rival's rights to the next."""
EVERYTHING = ""
"""In place of a namespace."""
NOBODY = ""
"""In place of an installation: one that has not noticed us yet may still be writing, or that can't be told now."""

Left = dict[str, str]
"""By namespace, or EVERYTHING, the installation that it is left to."""


class Scope(Protocol):
    """Asked by the leader, with each renewal."""

    async def look(self) -> None:
        """Find out what is left to others from now on."""

    @property
    def ends(self) -> float:
        """When what is known of the others is too old to write by."""

    def left_to(self, namespace: str, now: float) -> str | None:
        """The installation that it is left to; None: it is ours."""

    def left(self, now: float) -> Left:
        """All that is left to others."""

    def reason(self, left: Left) -> tuple[bool, str]:
        """Whether anything is left for us, and for people, what is not and why."""


class WholeCluster:
    """Every namespace but those that an installation for some has claimed; nothing, if another for all was there before."""

    def __init__(self, leases: Leases, namespace: str, lock: Lock) -> None:
        self._leases = leases
        self._namespace = namespace
        self._others = Installations(namespace)
        self._reviewed: dict[str, tuple[float, bool]] = {}
        """By namespace, until when it counts and whether the rival there is one."""
        self._lock = lock
        self._looked = -math.inf
        self._term, self._begins = math.inf, math.inf
        """When the present term began, and when its writes may: one that has to give way may still be writing before."""

    async def look(self) -> None:
        asked = clock()
        found = await self._leases.others()
        if found is not None:
            self._others.see([lease for lease in found if await self._is_true(lease)], clock())
            self._looked = asked
            if self._term != self._lock.since and self._lock.lease is not None:
                is_alone = self._others.junior(self._lock.lease, clock()) is None
                self._term = self._lock.since
                self._begins = self._term if is_alone else clock() + STOPS_SECONDS

    async def _is_true(self, lease: Raw) -> bool:
        if not is_rival(lease, self._namespace):
            return True
        namespace = lease["metadata"]["namespace"]
        until, is_true = self._reviewed.get(namespace, (0.0, False))
        if clock() >= until:
            is_true = await self._leases.may_write_everywhere(namespace)
            self._reviewed[namespace] = clock() + REVIEW_SECONDS, is_true
        return is_true

    @property
    def ends(self) -> float:
        return self._looked + self._lock.timing.renew if self._term == self._lock.since else -math.inf

    def left_to(self, namespace: str, now: float) -> str | None:
        if self._lock.lease is not None:
            if senior := self._others.senior(self._lock.lease, now):
                return senior
            if now < self._begins:
                return NOBODY
        return self._others.claims(now).get(namespace)

    def left(self, now: float) -> Left:
        everything = self.left_to(EVERYTHING, now)
        return self._others.claims(now) if everything is None else {EVERYTHING: everything}

    def reason(self, left: Left) -> tuple[bool, str]:
        if EVERYTHING not in left:
            return True, _reason(left)
        other = left[EVERYTHING]
        return False, (
            f"Another installation, in namespace {other}, looks after the whole cluster too and was there first: this one writes "
            f"nothing. Remove one of them; if that one is gone already, kubectl delete lease -n {other} {LEADER}"
        )


class SomeNamespaces:
    """Those that it is told and has a claim on."""

    def __init__(self, leases: Leases, namespace: str, namespaces: Collection[str]) -> None:
        self._leases = leases
        self._claims = {each: Lock(each, CLAIM, namespace, CLAIM_TIMING, labels=MARKS) for each in namespaces}

    async def look(self) -> None:
        await asyncio.gather(*map(self._leases.turn, self._claims.values()))

    @property
    def ends(self) -> float:
        return math.inf  # each claim has an end of its own

    def left_to(self, namespace: str, now: float) -> str | None:
        claim = self._claims.get(namespace)
        if claim is None:
            return NOBODY
        if not claim.holds(now):
            return claim.holder if claim.holder != claim.identity else NOBODY
        return NOBODY if now < claim.gained + STOPS_SECONDS else None

    def left(self, now: float) -> Left:
        found = {each: self.left_to(each, now) for each in self._claims}
        return {each: other for each, other in found.items() if other is not None}

    def reason(self, left: Left) -> tuple[bool, str]:
        return len(left) < len(self._claims), _reason(left)


def marks_of(namespaces: Collection[str]) -> dict[str, str]:
    """Annotations of an installation's own Lease."""
    return {SCOPE_ANNOTATION: ",".join(namespaces) or ALL}


def _reason(left: Left) -> str:
    parts = [
        f"Another installation, in namespace {other}, looks after namespace {each}: this one writes nothing there. "
        f"If that one is gone already, kubectl delete lease -n {each} {CLAIM}"
        for each, other in sorted(left.items())
    ]
    return ". ".join(parts)
