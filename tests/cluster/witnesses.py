"""What must have been true all the time, whoever led: told by the audit log and by every state that objects went through.

Each returns what was wrong, a line for each.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from whisper_operator.kube.kinds import ENDPOINT_LABEL

from devcluster import AuditEvent
from tests.cluster.declared import differences
from tests.cluster.history import State
from tests.cluster.support import LEASES, condition, is_change

LEASE_SECONDS = timedelta(seconds=10)
"""How long the Lease lasts: the last write of a leader that could not renew it has come by then."""


def unfenced(events: Iterable[AuditEvent], leader: str, since: datetime) -> Iterator[str]:
    """Writes since then by one who did not hold the Lease of that name; the replicas are told apart by their User-Agent."""
    in_order = sorted(events, key=lambda event: event.finished)
    terms = [event for event in in_order if is_lease(event, leader) and event.code < 300]
    for event in in_order:
        # What was refused was not written: a process may be stopped between a request's first byte and its last.
        if event.time < since or not is_change(event) or event.code >= 400:
            continue
        known = bisect_right(terms, event.time, key=lambda term: term.finished)
        last = terms[known - 1] if known else None
        what = f"{event.user_agent}: {event.verb} {event.resource} {event.namespace}/{event.name} at {event.time} ({event.code})"
        if last is None or last.user_agent != event.user_agent:
            yield f"{what}, while the Lease was {last.user_agent if last else 'nobody'}'s"
        elif event.time - last.time > LEASE_SECONDS:
            yield f"{what}, {event.time - last.time} after it last renewed the Lease"


def is_lease(event: AuditEvent, name: str) -> bool:
    return event.resource == LEASES and event.name in (name, "") and event.namespace == "whisper-operator"


class Bystanders:
    """Endpoints that nobody edits: what becomes of their pods is the installation's doing alone."""

    def __init__(self, replicas: Mapping[str, int]) -> None:
        """`replicas`: of each, by its name."""
        self._replicas = replicas
        self._templates: dict[str, Any] = {}
        """Of each Deployment, the last."""
        self._pods: dict[str, set[str]] = {}
        """By the ReplicaSet, the pods' uids."""

    def restarted(self, states: Iterable[State], versions: Sequence[str]) -> Iterator[str]:
        """Pods that were others than those that a new version asks for. `versions`: all that there were, oldest first."""
        for state in states:
            metadata = state.body["metadata"]
            name = metadata["name"]
            if state.body["kind"] == "Pod":
                owner = metadata["ownerReferences"][0]["name"]
                pods = self._pods.setdefault(owner, set())
                pods.add(metadata["uid"])
                if len(pods) > self._replicas[metadata["labels"][ENDPOINT_LABEL]]:
                    yield f"{owner} has had more pods than it has replicas: {sorted(pods)}"
                continue
            template = state.body["spec"]["template"]
            last = self._templates.setdefault(name, template)
            if template == last:
                continue
            self._templates[name] = template
            before, after = (_version(each, versions) for each in (last, template))
            rest = differences(*(_without(each, versions) for each in (last, template)))
            if rest or after <= before:
                yield f"{name} has got another template at {state.version}: version {before} to {after}, {rest}"


def crowded(states: Iterable[State]) -> Iterator[str]:
    """Times when a Deployment was given other pods while another was on its way to them."""
    templates: dict[str, Any] = {}
    rolling: dict[str, int] = {}
    """Since which version of the cluster."""
    for state in states:
        name, template = state.body["metadata"]["name"], state.body["spec"]["template"]
        if templates.get(name, template) != template:
            yield from (
                f"{name} was given other pods at {state.version} while {other} was on its way since {begun}"
                for other, begun in rolling.items()
                if other != name
            )
            rolling[name] = state.version
        templates[name] = template
        if not _rolls(state.body):
            rolling.pop(name, None)


def amiss(states: Iterable[State], allowed: Collection[str]) -> Iterator[str]:
    """Words about endpoints that are neither Ready nor in a state that is allowed, by its reason."""
    for state in states:
        ready = condition(state.body, "Ready")
        if ready.get("status") != "True" and ready.get("reason") not in allowed:
            yield f"{state.body['metadata']['name']} at {state.version}: {ready}"


def _rolls(deployment: dict[str, Any]) -> bool:
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(
        status.get("observedGeneration", 0) < deployment["metadata"]["generation"]
        or status.get("updatedReplicas", 0) < wanted
        or status.get("availableReplicas", 0) < wanted
        or status.get("replicas", 0) > status.get("updatedReplicas", 0)
    )


def _version(template: dict[str, Any], versions: Sequence[str]) -> int:
    """Its place among them; -1 of one that is none of them."""
    image = template["spec"]["containers"][0]["image"]
    return next((place for place, each in enumerate(versions) if f":{each}-" in image), -1)


def _without(value: Any, versions: Sequence[str]) -> Any:
    """All but the versions."""
    if isinstance(value, dict):
        return {name: _without(each, versions) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(each, versions) for each in value]
    text = str(value)
    for each in versions:
        text = text.replace(f":{each}-", ":VERSION-")
    return text
