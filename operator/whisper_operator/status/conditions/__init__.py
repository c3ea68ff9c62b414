"""The conditions of an endpoint: what is true of it, why, and what a person should do next.

Reasons are stable words for programs; messages are for people and may change. A module per concern; the first thing in the way
is what Ready speaks of.

Conditions of their own: rollout (Available), address, certificates, autoscaling. Faults of Ready: apply_faults, access, rollout
(of the Deployment) with pods (of its pods), endpoint_groups. What they share: pod_messages and pod_admission, the words for pods;
standing_warnings, which events still count; notes and upgrades, what Ready adds.
"""

from datetime import datetime

from whisper_operator.apply.outcome import Outcome
from whisper_operator.observed.children import Observed
from whisper_operator.spec.endpoint import SpecError, WhisperEndpoint
from whisper_operator.status.condition import SUSPENDED, Condition, Fault, Previous
from whisper_operator.status.conditions import (
    access,
    address,
    apply_faults,
    autoscaling,
    certificates,
    endpoint_groups,
    notes,
    rollout,
    upgrades,
)


def of(
    endpoint: WhisperEndpoint | SpecError,
    observed: Observed,
    outcome: Outcome,
    previous: Previous,
    now: datetime,
) -> list[Condition]:
    """Every condition that applies, in the order people read them."""
    available = rollout.available(endpoint, observed, previous)
    others = [
        *address.conditions(endpoint, observed, previous, now),
        *certificates.conditions(endpoint, observed, previous, now),
        *autoscaling.conditions(endpoint, observed),
    ]
    fault = (
        apply_faults.fault(endpoint, outcome)
        or access.fault(observed)
        or rollout.fault(endpoint, observed, previous)
    )
    suspended = isinstance(endpoint, WhisperEndpoint) and endpoint.suspend
    if not suspended:  # what is not to be served needs neither address nor certificate yet
        fault = (
            fault
            or _unmet(others)
            or address.refused(endpoint, observed, now)
            or endpoint_groups.fault(endpoint, observed, now)
            or certificates.redirect(endpoint, observed)
        )
    fault = upgrades.blamed(fault, outcome)
    if fault is not None:
        ready = Condition("Ready", "False", fault.reason, fault.message, fault.needs_action)
    elif suspended:
        words = "spec.suspend is true: nothing runs, as asked; address and certificate are kept."
        ready = Condition("Ready", "True", SUSPENDED, words)
    else:
        ready = _ready(endpoint, observed, others, outcome)
    found = [available, *others, ready]
    if ready.needs_action:
        found.append(Condition("Stalled", "True", ready.reason, ready.message, needs_action=True))
    return found


def _unmet(others: list[Condition]) -> Fault | None:
    # What a person has to mend comes before what mends itself, and a cause before what only waits for it.
    for condition in sorted(others, key=lambda each: (not each.needs_action, each.reason == address.WAITS)):
        if condition.status != "True" and not autoscaling.serves_all_the_same(condition):
            return Fault(condition.reason, condition.message, condition.needs_action)
    return None


def _ready(
    endpoint: WhisperEndpoint | SpecError, observed: Observed, others: list[Condition], outcome: Outcome
) -> Condition:
    everything = ", with all it asks for" if all(each.status == "True" for each in others) else ""
    said = notes.of(endpoint, others) if isinstance(endpoint, WhisperEndpoint) else []
    said += access.notes(observed)
    said += upgrades.notes(outcome)
    reason = "Ready" if outcome.held is None else upgrades.PENDING
    return Condition("Ready", "True", reason, " ".join([f"The current spec is served{everything}.", *said]))
