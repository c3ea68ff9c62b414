"""The conditions of an endpoint: what is true of it, why, and what a person should do next.

Reasons are stable words for programs; messages are for people and may change. A module per concern; the first thing in the way
is what Ready speaks of.
"""

from datetime import datetime

from whisper_operator.apply.outcome import Outcome
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import Condition, Fault, Previous
from whisper_operator.status.conditions import (
    address,
    autoscaling,
    certificates,
    notes,
    obstacles,
    workload,
)


def of(
    endpoint: WhisperEndpoint | SpecError,
    observed: Observed,
    outcome: Outcome,
    previous: Previous,
    now: datetime,
) -> list[Condition]:
    """Every condition that applies, in the order people read them."""
    available = workload.available(endpoint, observed, previous)
    others = [
        *address.conditions(endpoint, observed, previous, now),
        *certificates.conditions(endpoint, observed, previous, now),
        *autoscaling.conditions(endpoint, observed),
    ]
    fault = (
        obstacles.fault(endpoint, outcome)
        or workload.fault(endpoint, observed, previous)
        or _unmet(others)
        or address.refused(endpoint, observed, now)
        or certificates.redirect(endpoint, observed)
    )
    ready = _not_ready(fault) if fault is not None else _ready(endpoint)
    found = [available, *others, ready]
    if ready.needs_action:
        found.append(Condition("Stalled", "True", ready.reason, ready.message, needs_action=True))
    return found


def _unmet(others: list[Condition]) -> Fault | None:
    # What a person has to mend comes before what mends itself.
    for condition in sorted(others, key=lambda each: not each.needs_action):
        if condition.status != "True":
            return Fault(condition.reason, condition.message, condition.needs_action)
    return None


def _not_ready(fault: Fault) -> Condition:
    return Condition("Ready", "False", fault.reason, fault.message, fault.needs_action)


def _ready(endpoint: WhisperEndpoint | SpecError) -> Condition:
    said = notes.of(endpoint) if isinstance(endpoint, WhisperEndpoint) else []
    message = " ".join(["The current spec is served, with all it asks for.", *said])
    return Condition("Ready", "True", "Ready", message)
