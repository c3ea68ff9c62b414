"""What GKE's controllers complain of, in events: which of it still stands, and when to look again because it may be over.

A controller never says that all is well again. It writes to the object, where there is anything to write; else what it says no
more is over: it tries again after as long as it has been failing, 1000 s at most.
"""

from collections.abc import Iterable
from datetime import datetime

from whisper_operator.kube.kinds import INGRESS, MANAGED_CERTIFICATE, SERVICE
from whisper_operator.observed.children import Child, Observed
from whisper_operator.observed.warnings import Warning

TOLD_OF = (INGRESS, MANAGED_CERTIFICATE, SERVICE)
"""The kinds of which GKE's controllers tell by events."""

LONGEST_PAUSE = 1000.0
"""Seconds between two tries at the most, as of every controller with client-go's queue."""
RARELY = 330.0
"""Seconds between two events about an object that keeps failing: after the first 25, client-go lets one through in 5 minutes."""
ONCE, AT_LEAST = 10.0, 60.0
"""What was said for no longer than that many seconds stands for so many: the first tries are close together."""


def standing(child: Child, observed: Observed, now: datetime) -> list[Warning]:
    """What is complained of an Ingress, a ManagedCertificate or a Service now, the newest first."""
    said = sorted(observed.warned(child.uid), key=lambda each: (each.at, each.words), reverse=True)
    return [each for each in said if _counts(child, each) and _left(each, now) > 0]


def next_look(observed: Observed, now: datetime) -> float | None:
    """Seconds until the first of them is over, if nothing more is said; None while there is none."""
    children = (child for kind in TOLD_OF for child in observed.of_kind(kind))
    return min(
        (_left(each, now) for child in children for each in standing(child, observed, now)), default=None
    )


def newest(warnings: Iterable[Warning]) -> Warning | None:
    """The one that was said last."""
    return max(warnings, key=lambda each: (each.at, each.words), default=None)


def lasted(warnings: Iterable[Warning]) -> float:
    """Seconds from when the first of them was first said to when one of them was last said."""
    timed = [each for each in warnings if each.at]
    if not timed:
        return 0.0
    first, last = min(each.since for each in timed), max(each.at for each in timed)
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def between(one: Warning, other: Warning) -> float:
    """Seconds from when the one was last said to when the other was; 0 where that is not known."""
    if not one.at or not other.at:
        return 0.0
    return (datetime.fromisoformat(other.at) - datetime.fromisoformat(one.at)).total_seconds()


def _counts(child: Child, warning: Warning) -> bool:
    return bool(warning.at) and warning.at > child.controller_wrote


def _left(warning: Warning, now: datetime) -> float:
    lasted = min(warning.lasted, LONGEST_PAUSE)
    patience = AT_LEAST if lasted <= ONCE else max(RARELY, 1.5 * lasted)
    return patience - (now - datetime.fromisoformat(warning.at)).total_seconds()
