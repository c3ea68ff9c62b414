"""What the installation, and not an endpoint's own spec, changes of its pods: told apart, and held until its turn; pure.

On each Deployment stands a hash of that part of the endpoint's spec that its pods were made for, and one of the pods themselves.
If the pods would change, and the spec has not, then the installation has: its configuration, or the operator. What is held is the
Deployment as a whole, but for the number of its replicas: to declare some of its fields, all would have to be declared, and what
pods it was given before is not known any more. All other children are written at once, so they have to do for earlier pods, too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from whisper_operator.apply import plan as planning
from whisper_operator.apply.plan import Plan
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    PAUSED_ANNOTATION,
    SPEC_ANNOTATION,
    TEMPLATE_ANNOTATION,
    UPGRADING_ANNOTATION,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed
from whisper_operator.rollouts.progress import LACKED, WHOLE, Progress
from whisper_operator.rollouts.train import Turn
from whisper_operator.spec.fields import without_nulls

NOT_OF_PODS = (
    *("replicas", "autoscaling", "suspend"),
    *("host", "additionalHosts", "staticIPName", "ingress", "networkPolicy"),
)
"""Fields of spec that change nothing of a pod, by themselves: a change of theirs leaves an upgrade waiting where it waits. So a
replica more, or a host, is no gamble on a new version."""

TEMPLATE_PATH = f"metadata.annotations.{TEMPLATE_ANNOTATION}"


@dataclass(frozen=True)
class Change:
    """What an endpoint's Deployment would become."""

    desired: tuple[Manifest, ...]
    """All children, the Deployment with what it is to be known by."""
    live: Child | None
    progress: Progress | None
    """Of the live one, where its pods would change by the installation's doing alone."""


def of(resource: Raw, desired: Iterable[Manifest], observed: Observed) -> Change:
    """`desired`: as the endpoint's children should be once nothing waits."""
    made, manifest = tuple(desired), None
    for each in made:
        manifest = each if each.kind is DEPLOYMENT else manifest
    if manifest is None:
        return Change(made, None, None)
    live = observed.only(DEPLOYMENT, manifest.name)
    marks = {
        SPEC_ANNOTATION: spec_hash(resource),
        TEMPLATE_ANNOTATION: _hash(manifest.body["spec"]["template"]),
    }
    progress, by_others = None, False
    if live is not None:
        progress = Progress.of(live, next(iter(observed.of_kind(AUTOSCALER)), None))
        by_others = _waits_its_turn(resource, manifest, live, marks)
        if progress.on_its_way and (by_others or not _turns_over(live, marks)):
            marks[UPGRADING_ANNOTATION] = progress.upgrading
    marked = tuple(_marked(each, marks) if each.kind is DEPLOYMENT else each for each in made)
    return Change(marked, live, progress if by_others else None)


def plan(change: Change, turn: Turn, observed: Observed, now: datetime) -> Plan:
    """What to write now: all of the change, or what of it need not wait."""
    if turn is Turn.BOARD and change.progress and not change.progress.on_its_way:
        since = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        mark = {UPGRADING_ANNOTATION: since + ("" if change.progress.serves == WHOLE else LACKED)}
        boarded = (_marked(each, mark) if each.kind is DEPLOYMENT else each for each in change.desired)
        return planning.plan(boarded, observed)
    due = planning.plan(change.desired, observed)
    if turn.goes or change.live is None:
        return due
    scale = tuple(
        (live, manifest.body["spec"]["replicas"])
        for manifest, live in due.update
        if manifest.kind is DEPLOYMENT
        and manifest.body["spec"].get("replicas", live.spec.get("replicas")) != live.spec.get("replicas")
    )
    update = tuple(write for write in due.update if write[0].kind is not DEPLOYMENT)
    return replace(due, update=update, scale=scale)


def gives_new_pods(change: Change) -> bool:
    """Whether its live pods are to be others than were declared last."""
    manifest = next((each for each in change.desired if each.kind is DEPLOYMENT), None)
    if change.live is None or manifest is None:
        return False
    return _turns_over(change.live, manifest.body["metadata"].get("annotations", {}))


def is_paused(resource: Raw, settings: Settings) -> bool:
    """Whether upgrades of the endpoint are held, by its users or by who runs the operator."""
    by_users = settings.endpoints_may_pause and paused_by(resource) not in ("", "false")
    return settings.paused or by_users


def paused_by(resource: Raw) -> str:
    """The value of the endpoint's annotation. One that is neither true nor false is taken for true: to hold harms less."""
    return str((resource["metadata"].get("annotations") or {}).get(PAUSED_ANNOTATION) or "")


def spec_hash(resource: Raw) -> str:
    """Of what a spec says of pods. Of what faces the users, they are told whose proxy is in front of them."""
    spec = without_nulls(resource.get("spec") or {})
    front = spec.get("ingress", {}).get("class") if "host" in spec else None
    return _hash([{name: value for name, value in spec.items() if name not in NOT_OF_PODS}, front])


def _waits_its_turn(resource: Raw, manifest: Manifest, live: Child, marks: Mapping[str, str]) -> bool:
    if live.deleting or live.spec.get("replicas", 1) == 0 or manifest.body["spec"].get("replicas") == 0:
        return False  # no pods, nobody who could lose something
    if TEMPLATE_PATH in live.refused:
        return False  # admission takes away what it would be known by
    if TEMPLATE_ANNOTATION not in live.annotations:  # by a version that did not write it
        known = [planning.fingerprint(each) for each in (manifest, _marked(manifest, marks))]
        return live.applied_hash not in known and not _is_news(resource)
    own = live.annotations.get(SPEC_ANNOTATION) != marks[SPEC_ANNOTATION]
    return _turns_over(live, marks) and not own


def _turns_over(live: Child, marks: Mapping[str, str]) -> bool:
    """Whether its pods are to be others than were declared last."""
    return live.annotations.get(TEMPLATE_ANNOTATION) != marks.get(TEMPLATE_ANNOTATION)


def _is_news(resource: Raw) -> bool:
    """Whether the spec has changed since somebody looked at it last."""
    observed = (resource.get("status") or {}).get("observedGeneration")
    return bool(observed != resource["metadata"].get("generation"))


def _marked(manifest: Manifest, marks: Mapping[str, str]) -> Manifest:
    metadata = manifest.body["metadata"]
    annotations = {**metadata.get("annotations", {}), **marks}
    return replace(manifest, body={**manifest.body, "metadata": {**metadata, "annotations": annotations}})


def _hash(value: Any) -> str:
    """The same on every machine, and in every version: another would look like a change of every endpoint's spec."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
