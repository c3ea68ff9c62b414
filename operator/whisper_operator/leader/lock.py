"""A Lease as one candidate sees it: whether it may be had, is held, or is lost. Pure: requests and clocks are its caller's.

The algorithm is client-go's. Clocks of different machines are never compared: a Lease has run out when nobody has changed it for
its duration by the candidate's own clock, and whoever holds it counts from when it sent its last sign of life, which is before
anybody can have seen that.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from whisper_operator.kube.kinds import LEASE
from whisper_operator.kube.objects import Raw


@dataclass(frozen=True)
class Timing:
    """Seconds. What `lease` has beyond `renew` is for what is on its way when the holder stops."""

    lease: float = 10.0
    """How long others wait for a sign of life before they take it."""
    renew: float = 6.0
    """How long the holder goes on without having given one."""
    retry: float = 2.0
    """From one sign of life to the next."""
    apart: float = 1.0
    """By how much clocks of different machines may run apart in that time."""

    @property
    def slack(self) -> float:
        """Within which all has to be over that the holder began before it stopped."""
        return self.lease - self.renew - self.apart


class Lock:
    """One Lease and one candidate for it. `now` is always of the same clock, which goes on while the process is stopped."""

    def __init__(
        self,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        shared: bool = False,
    ) -> None:
        """`shared`: several processes go by this identity, one after the other, so that each takes the others' for its own."""
        self.namespace = namespace
        self.name = name
        self.identity = identity
        self.timing = timing or Timing()
        self._marks = {"labels": dict(labels or {}), "annotations": dict(annotations or {})}
        self._shared = shared
        self._lease: Raw | None = None
        self._looked = False
        self._changed = -math.inf
        """When what it says of its holder was seen to be another than before."""
        self._sent = -math.inf
        """When our last sign of life was sent; -inf: it is not ours."""
        self._wrote: Raw = {}
        """What our last write would make of it, until it is answered."""
        self._put_back = False
        """Whether our name is in it by somebody else's hand."""
        self.stale = True
        """Whether it has to be read before it can be written."""
        self.trouble = ""
        """Why it can't be had, for people; "" where nothing is wrong."""
        self.predecessor = -1.0
        """The resourceVersion until which others may have written before us: -1 nobody did, inf if that can't be told."""
        self.since = -math.inf
        """When the present term began."""
        self.gained = -math.inf
        """Since when nobody else may have had it: terms of one's own may follow each other."""

    @property
    def what(self) -> str:
        """It, for people."""
        return f"the Lease {self.namespace}/{self.name}"

    @property
    def lease(self) -> Raw | None:
        """As it was last seen."""
        return self._lease

    @property
    def holder(self) -> str:
        """Who has it, as far as is known; "" is nobody."""
        return _holder(self._lease)

    def holds(self, now: float) -> bool:
        """Whether we have it, so that nobody else can begin before the end of what is begun now."""
        return now < self.ends

    @property
    def ends(self) -> float:
        """From when on nothing may be begun, unless it is renewed; others may have it `timing.slack` later at the earliest."""
        return self._sent + self.timing.renew

    def due(self, now: float) -> bool:
        """Whether a sign of life is due; of one that is not ours, at once."""
        return now >= self._sent + self.timing.retry

    def see(self, lease: Raw | None, now: float) -> None:
        """Take in what was read; None: there is none."""
        was_ours = self._lease is not None and self.holder == self.identity
        if not self._looked or _spec(lease) != _spec(self._lease):
            self._changed = now if self._looked or lease is not None else -math.inf
            if self._looked and not was_ours and _holder(lease) == self.identity:
                # By a write of ours whose answer was lost; by another of us; or by somebody who put back what was there once.
                self.gained = now
                self._put_back = not self._shared and _spec(lease) != self._wrote
        self._lease, self._looked, self.stale = lease, True, False
        if lease is not None and self.holder != self.identity:
            self._sent, self._put_back = -math.inf, False

    def may_be_had(self, now: float) -> bool:
        """Whether to write our name into it: it is ours, nobody's, or has run out."""
        if self.stale:
            return False
        if self._lease is None:  # never was, or was deleted under somebody who makes it anew
            return now >= self._changed + self.timing.lease or self.holds(now)
        if self.holder == "" or (self.holder == self.identity and not self._put_back):
            return True
        said = _spec(self._lease).get("leaseDurationSeconds") or 0
        return now >= self._changed + max(self.timing.lease, float(said))

    def body(self, wall: datetime) -> dict[str, Any]:
        """The Lease to write, in place of the one that was seen and of no other. `wall` is for people to read."""
        before, stamp = _spec(self._lease), wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        is_ours = self.holder == self.identity
        transitions = int(before.get("leaseTransitions") or 0)
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self.timing.lease),
            "acquireTime": before.get("acquireTime") or stamp if is_ours else stamp,
            "renewTime": stamp,
            "leaseTransitions": transitions if is_ours or self._lease is None else transitions + 1,
        }
        self._wrote = spec
        return self._with(spec)

    def wrote(self, answer: Raw, sent: float, now: float) -> None:
        """Our name stands in it, by a request that was sent then."""
        is_new = not self.holds(now)
        if is_new:  # a new term
            self.predecessor, self.since = self._others_until(), now
        if self.holder != self.identity or self._lease is None or (is_new and self._ran_out(answer)):
            self.gained = now
        self._lease, self._looked, self.stale, self._wrote = answer, True, False, {}
        self._changed, self._sent, self._put_back = now, sent, False

    def _ran_out(self, answer: Raw) -> bool:
        """Whether it was not renewed for so long that another may have had it, and may still act by it. The one time at which
        wall clocks are compared, those of an installation's own replicas: of what was before they began, nothing else tells."""
        try:
            before, after = (
                datetime.fromisoformat(_spec(each)["renewTime"]) for each in (self._lease, answer)
            )
            return abs((after - before).total_seconds()) > self.timing.renew
        except (KeyError, TypeError, ValueError):
            return True

    def conflicted(self) -> None:
        """A write met another state than the one that was seen. So does the one after a write whose answer was lost."""
        self.stale = True

    def release(self, wall: datetime) -> dict[str, Any]:
        """The Lease that says that it is nobody's; nothing of ours may be under way any more."""
        self._sent, self._put_back = -math.inf, False
        spec = {**_spec(self._lease), "holderIdentity": "", "leaseDurationSeconds": 1}
        return self._with({**spec, "renewTime": wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")})

    def _others_until(self) -> float:
        if self._lease is None:
            return -1 if self._changed == -math.inf else math.inf
        return float(self._lease["metadata"]["resourceVersion"]) if self.holder == "" else math.inf

    def _with(self, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = dict(
            (self._lease or {}).get("metadata") or {"namespace": self.namespace, "name": self.name}
        )
        metadata.pop("managedFields", None)
        for name, marks in self._marks.items():
            if marks:
                metadata[name] = {**(metadata.get(name) or {}), **marks}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}


def _spec(lease: Raw | None) -> Raw:
    return (lease or {}).get("spec") or {}


def _holder(lease: Raw | None) -> str:
    return str(_spec(lease).get("holderIdentity") or "")
