"""What the conditions of an endpoint say, and whether anybody looks after it."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, WARNING, Finding, Gap, Result, Subject, Well, command
from whisper_operator.doctor.views import View
from whisper_operator.kube.kinds import ENDPOINT, MANAGED_CERTIFICATE
from whisper_operator.kube.objects import Raw, condition
from whisper_operator.policy.allowed import CLOSED
from whisper_operator.status.condition import STOPS_OTHERS, Condition
from whisper_operator.status.conditions.certificates import ADVICE
from whisper_operator.status.conditions.upgrades import PENDING

PATIENCE = timedelta(seconds=60)
"""That the operator has for a change, and for making anything of a new endpoint."""
GOING = timedelta(minutes=10)
"""That a deletion may take without a word, unless somebody asks about that very endpoint."""
ALL_TYPES = ("Ready", "AddressAssigned", "CertificateReady", "AutoscalingReady")
"""Available only says once more what Ready says."""


def check(facts: Facts, view: View) -> Iterator[Result]:
    metadata = view.resource["metadata"]
    deleted = metadata.get("deletionTimestamp")
    if deleted:
        if facts.name is not None or facts.now - datetime.fromisoformat(deleted) > GOING:
            yield _going(view, deleted)
        return
    if not view.installations and view.is_known:
        known = () if isinstance(facts.installations, Gap) else facts.installations
        others = ", ".join(each.namespace for each in known)
        yield Finding(
            ERROR,
            "EndpointNotLookedAfter",
            view.subject,
            f"No installation looks after namespace {view.key[0]} (there is one in {others}, for others): no change of this "
            "endpoint is carried out, and what was made of it earlier is not looked after.",
            "Move the endpoint, or have the namespace added to the operator's configuration and rights.",
        )
        return
    yield from _not_taken_up(facts, view)
    # What is not to be served needs neither address nor certificate.
    found = [each for each in _conditions(view) if each.type == "Ready" or not view.suspended]
    wrong = {
        each.reason: each for each in found if each.status == "False"
    }  # Ready repeats another's, and is the last
    by_certificate = view.observed.of_kind(MANAGED_CERTIFICATE)
    for each in wrong.values():
        if by_certificate and each.reason in ADVICE:
            continue  # told of each certificate
        if each.message == CLOSED:
            yield from _closed(view)
            continue
        yield Finding(
            ERROR if each.needs_action else WARNING,
            each.reason,
            view.subject,
            each.message,
            command=command("kubectl", "describe", ENDPOINT.plural, "-n", *view.key)
            if not each.needs_action
            else "",
        )
    yield from _stops_others(facts, view)
    # The operator's own words come first, as it alone knows of an upgrade that waits.
    ready = next(
        (each for each in (*_said(view), *found) if (each.type, each.status) == ("Ready", "True")), None
    )
    if ready is not None and not wrong:
        yield Well(f"{view.subject} is ready. {ready.message}")


def _conditions(view: View) -> list[Condition]:
    """As they are now; and of what the operator alone knows, as it has said last."""
    said = _said(view)
    if view.conditions is None:
        return said
    alone = [each for each in said if (each.type, each.status) == ("Ready", "False")]
    return [*alone, *(each for each in view.conditions if each.type in ALL_TYPES)]


def _said(view: View) -> list[Condition]:
    status = _status(view)
    stalled = condition(status, "Stalled").get("reason")
    return [
        Condition(
            each["type"],
            each["status"],
            each["reason"],
            each["message"].removesuffix(STOPS_OTHERS),
            needs_action=each["reason"] == stalled,
        )
        for each in sorted(status.get("conditions") or (), key=lambda each: each["type"] == "Ready")
        if each["type"] in ALL_TYPES
    ]


def _closed(view: View) -> Iterator[Finding]:
    """Of all endpoints together, unless it is told of the file that says so."""
    if not any(each.policy_file and each.policy_file.name in each.faults for each in view.installations):
        yield Finding(ERROR, "PolicyInvalid", Subject("Policy"), CLOSED)


def _stops_others(facts: Facts, view: View) -> Iterator[Finding]:
    if not condition(_status(view), "Ready").get("message", "").endswith(STOPS_OTHERS):
        return
    endpoints = () if isinstance(facts.endpoints, Gap) else facts.endpoints
    ready = (condition(each.get("status") or {}, "Ready") for each in endpoints)
    waiting = sum(each.get("reason") == PENDING for each in ready)
    words = f" Of the endpoints that were looked at, {waiting} {'wait' if waiting > 1 else 'waits'} for an upgrade."
    problem = STOPS_OTHERS.strip() + (words if waiting else "")
    yield Finding(ERROR, "UpgradesStopped", view.subject, problem)


def _status(view: View) -> Raw:
    """What the operator has written of this very spec; empty if that is none yet."""
    status: Raw = view.resource.get("status") or {}
    is_of_this = status.get("observedGeneration") == view.resource["metadata"].get("generation")
    return status if is_of_this else {}


def _not_taken_up(facts: Facts, view: View) -> Iterator[Result]:
    metadata, status = view.resource["metadata"], view.resource.get("status") or {}
    if status.get("observedGeneration") == metadata.get("generation"):
        return
    times = [
        str(entry["time"])
        for entry in metadata.get("managedFields") or ()
        if entry.get("time") and not entry.get("subresource")
    ]
    changed = max(times, default=metadata["creationTimestamp"])
    if facts.now - datetime.fromisoformat(changed) < PATIENCE:
        return
    what = "has no status" if not status else "was changed, and its status is of the spec before"
    yield Finding(
        WARNING,
        "EndpointNotTakenUp",
        view.subject,
        f"It {what}: the operator has not looked at it since {changed}.",
        "See whether the operator runs, and what its log says of it.",
        command("kubectl", "describe", ENDPOINT.plural, "-n", *view.key),
    )


def _going(view: View, deleted: str) -> Finding:
    finalizers = view.resource["metadata"].get("finalizers") or ()
    waits = f" It waits for {', '.join(finalizers)}, which is none of the operator's." if finalizers else ""
    return Finding(
        WARNING,
        "EndpointDeleting",
        view.subject,
        f"It was deleted at {deleted}, and is still there.{waits}",
        "See who is to take that away.",
        command("kubectl", "get", ENDPOINT.plural, "-n", *view.key, "-o", "yaml"),
    )
