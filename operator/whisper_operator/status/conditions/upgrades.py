"""What is said of upgrades: of one that waits, by who serves meanwhile, and of one that fails, by whom it fails on."""

from whisper_operator.apply.outcome import Held, Outcome
from whisper_operator.kube.kinds import AUTOSCALER, DEPLOYMENT, PAUSED_ANNOTATION
from whisper_operator.observed.children import Observed
from whisper_operator.rollouts.progress import Progress
from whisper_operator.rollouts.train import Turn
from whisper_operator.status.condition import STOPS_OTHERS, Fault

PENDING = "UpgradePending"
"""The reason of Ready=True where an upgrade waits."""


def notes(outcome: Outcome) -> list[str]:
    """Sentences. Without the names of other endpoints, which may be somebody else's, nor how many wait: that would be written
    anew to each of them with every one that goes."""
    if outcome.held is None:
        return []
    made = "An upgrade waits: the installation (its server.version, its defaults or the operator) makes the pods differently now."
    return [f"{made} {_why(outcome.held)} A change of the spec's own pods takes it along at once."]


def blamed(fault: Fault | None, observed: Observed) -> Fault | None:
    """The fault of an endpoint's pods, with what it does to others."""
    deployment = next(iter(observed.of_kind(DEPLOYMENT)), None)
    if fault is None or not fault.needs_action or deployment is None:
        return fault
    progress = Progress.of(deployment, next(iter(observed.of_kind(AUTOSCALER)), None))
    if not (progress.on_its_way and progress.is_proof):
        return fault
    return Fault(fault.reason, fault.message + STOPS_OTHERS, fault.needs_action)


def _why(held: Held) -> str:
    if held.turn is Turn.STOPPED:
        return (
            "It goes on once another endpoint serves again, on which the upgrade fails: which that is stands in the operator's "
            "log, for those who run it."
        )
    if held.turn is not Turn.PAUSED:
        return "It comes by itself, as endpoints are upgraded one after the other, those that serve first."
    if not held.annotation or held.annotation == "false":
        return "It is held by paused in the operator's configuration."
    doubt = "" if held.annotation == "true" else f" (it says {held.annotation!r}, which counts as true)"
    return f"It is held by the annotation {PAUSED_ANNOTATION}{doubt}: take that away, and it comes by itself."
