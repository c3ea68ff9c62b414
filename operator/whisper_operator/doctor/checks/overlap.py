"""Whether two installations look after the same: one of them writes nothing there then."""

from collections.abc import Iterator
from datetime import datetime
from itertools import combinations

from whisper_operator.doctor.facts import Facts
from whisper_operator.doctor.finding import ERROR, Finding, Gap, Result, Subject, Well
from whisper_operator.kube.objects import Raw
from whisper_operator.leader.installations import (
    ALL,
    CLAIM,
    LEADER,
    SCOPE_ANNOTATION,
    THERE_SECONDS,
    age,
    holder,
)


def check(facts: Facts) -> Iterator[Result]:
    if isinstance(facts.leases, Gap):
        yield facts.leases.finding("Other installations", Subject("Installations"))
    leases = () if isinstance(facts.leases, Gap) else facts.leases
    leaders = [each for each in leases if each["metadata"]["name"] == LEADER and _is_alive(each, facts)]
    scopes = {**_by_deployment(facts), **{_home(each): _scope(each) for each in leaders}}
    overlapping = False
    for one, other in combinations(sorted(scopes), 2):
        if found := _overlap(one, other, scopes, leaders, leases):
            overlapping = True
            yield found
    if not overlapping and scopes and not isinstance(facts.leases, Gap):
        yield Well("No two installations look after the same namespaces")


def _overlap(
    one: str, other: str, scopes: dict[str, set[str]], leaders: list[Raw], leases: tuple[Raw, ...]
) -> Finding | None:
    """`leaders`: the Leases of those that have given a sign of life; an older one that has not holds back nobody."""
    shared = scopes[one] & scopes[other]
    if not shared:  # one for all leaves namespaces to those that are for some
        return None
    if ALL in shared:
        where, what = "the whole cluster", "the cluster"
        own = sorted((each for each in leaders if _home(each) in (one, other)), key=age)
        first = _home(own[0]) if own else None
    else:
        where = f"namespace {', '.join(sorted(shared))}"
        what = where
        claims = (each for each in leases if each["metadata"]["name"] == CLAIM and _home(each) in shared)
        first = next((holder(each) for each in claims if holder(each) in (one, other)), None)
    idle = one if first == other else other
    who = (
        f"The one in namespace {first} has {what}, and the other writes nothing there."
        if first
        else (
            "Unless one of them leaves it to the other, they undo each other's work, and restart pods each time."
        )
    )
    return Finding(
        ERROR,
        "InstallationsOverlap",
        Subject("Installation", idle),
        f"Two installations, in namespaces {one} and {other}, look after {where}. {who}",
        "Remove one of them, or give each namespaces of its own in its configuration; to remove the operator alone:",
        f"kubectl delete deployment -n {idle} whisper-operator",
    )


def _by_deployment(facts: Facts) -> dict[str, set[str]]:
    """Of those that say so in their configuration, run, and may: anybody may call a Deployment so."""
    known = () if isinstance(facts.installations, Gap) else facts.installations
    return {
        each.namespace: set(each.settings.namespaces) or {ALL}
        for each in known
        if each.settings is not None
        and (each.deployment.get("status") or {}).get("availableReplicas")
        and (isinstance(each.lacking, Gap) or not each.lacking)
    }


def _is_alive(lease: Raw, facts: Facts) -> bool:
    """Whether there has been a sign of life of late, and it is no Lease that somebody has made up."""
    renewed = str((lease.get("spec") or {}).get("renewTime") or "")
    try:
        seconds = (facts.now - datetime.fromisoformat(renewed)).total_seconds()
    except ValueError:
        return False
    return seconds < THERE_SECONDS and not (_scope(lease) == {ALL} and _home(lease) in facts.made_up)


def _scope(lease: Raw) -> set[str]:
    said = str((lease["metadata"].get("annotations") or {}).get(SCOPE_ANNOTATION) or "")
    return {each for each in said.split(",") if each}


def _home(lease: Raw) -> str:
    return str(lease["metadata"]["namespace"])
