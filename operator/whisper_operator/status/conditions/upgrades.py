"""What is said of upgrades: of one that waits, by who serves meanwhile, and of one that fails, by whom it fails on."""

from whisper_operator.apply.outcome import Outcome
from whisper_operator.status.condition import STOPS_OTHERS, Fault

PENDING = "UpgradePending"
"""The reason of Ready=True where an upgrade waits."""


def notes(outcome: Outcome) -> list[str]:
    """Sentences. Without the names of other endpoints, which may be somebody else's, nor how many wait or whether one fails: that
    would be written anew to each of them with every one that goes."""
    if outcome.held is None:
        return []
    made = (
        "An upgrade waits: the installation (its server.version, its defaults, its policy or the operator) makes the pods "
        "differently now."
    )
    why = (
        f"It is held by {' and by '.join(outcome.held.by)}."
        if outcome.held.by
        else "It comes by itself, as endpoints are upgraded one after the other, and none while one fails: which that is stands "
        "in the operator's log, for those who run it."
    )
    said = [f"{made} {why} A change of the spec's own pods takes it along at once."]
    if outcome.held.edited:
        said.append(
            "The Deployment was changed by hand, and its pods are as they were made then: that is put right with it."
        )
    return said


def blamed(fault: Fault | None, outcome: Outcome) -> Fault | None:
    """Whatever is wrong with an endpoint, with what it does to others, so that somebody has to act."""
    if fault is None or not outcome.stops_others:
        return fault
    return Fault(fault.reason, fault.message + STOPS_OTHERS)
