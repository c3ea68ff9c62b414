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
    DEPLOYMENT,
    PAUSED_ANNOTATION,
    SPEC_ANNOTATION,
    TEMPLATE_ANNOTATION,
    UPGRADING_ANNOTATION,
)
from whisper_operator.kube.objects import Raw
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed
from whisper_operator.rollouts.progress import WHOLE, Mark, Progress, Standing
from whisper_operator.rollouts.turn import Turn
from whisper_operator.spec.endpoint import WhisperEndpoint
from whisper_operator.spec.fields import without_nulls

NOT_OF_PODS = (
    *("replicas", "autoscaling", "suspend", "rollout"),
    *("host", "additionalHosts", "staticIPName", "ingress", "networkPolicy"),
)
"""Fields of spec that change nothing of a pod, by themselves: a change of theirs leaves an upgrade waiting where it waits. So a
replica more, or a host, is no gamble on a new version."""

TEMPLATE_PATH = f"metadata.annotations.{TEMPLATE_ANNOTATION}"

UNKNOWN = "unknown"
"""In place of the hash of a spec that nobody has seen and pods were made for."""


@dataclass(frozen=True)
class Change:
    """What an endpoint's Deployment would become."""

    desired: tuple[Manifest, ...]
    """All children, the Deployment with what it is to be known by."""
    live: Child | None = None
    replicas: int | None = None
    """How many the spec wants; None: an autoscaler decides."""
    waits: bool = False
    """Whether the live one's pods would change by the installation's doing alone."""


def of(
    resource: Raw,
    endpoint: WhisperEndpoint,
    desired: Iterable[Manifest],
    observed: Observed,
    standing: Standing = Standing.NONE,
    server: str = "",
) -> Change:
    """`desired`: as the endpoint's children should be once nothing waits, and with which server (see `server`); `standing`: of
    the upgrade that it is in."""
    made = tuple(desired)
    manifest = next((each for each in made if each.kind is DEPLOYMENT), None)
    if manifest is None:
        return Change(made)
    live = observed.only(DEPLOYMENT, manifest.name)
    marks = {
        SPEC_ANNOTATION: spec_hash(resource),
        TEMPLATE_ANNOTATION: _hash(manifest.body["spec"]["template"]),
    }
    waits = live is not None and _waits_its_turn(resource, manifest, live, marks)
    if live is not None and (mark := Mark.of(live)) is not None:
        # It stays until the endpoint has served, whatever else changes meanwhile, or until nobody waits for that and it changes.
        stays = mark.template == marks[TEMPLATE_ANNOTATION] or standing is not Standing.ASIDE
        if stays and standing is not Standing.THROUGH:
            marks[UPGRADING_ANNOTATION] = str(
                replace(mark, template=marks[TEMPLATE_ANNOTATION], server=server)
            )
    return Change(_marked_all(made, marks), live, endpoint.replicas, waits)


def plan(change: Change, turn: Turn, progress: Progress, observed: Observed, now: datetime) -> Plan:
    """What to write now: all of the change, or what of it need not wait."""
    if turn is Turn.BOARD:
        return planning.plan(_boarding(change.desired, progress, now), observed)
    due = planning.plan(change.desired, observed)
    live = change.live
    if turn.goes or live is None:
        return due
    update = tuple(write for write in due.update if write[0].kind is not DEPLOYMENT)
    has = live.spec.get("replicas", 1)
    wanted = has if change.replicas is None else change.replicas
    scale = ((live, wanted),) if wanted != has else ()
    # What an older version has not written down is what the spec says now: else its next change would not be told as one.
    known = SPEC_ANNOTATION in live.annotations
    spec = {SPEC_ANNOTATION: _deployment(change.desired).body["metadata"]["annotations"][SPEC_ANNOTATION]}
    annotate = () if known else ((live, spec),)
    return replace(due, update=update, scale=scale, annotate=annotate)


def gives_new_pods(change: Change) -> bool:
    """Whether its live pods are to be others than were declared last."""
    live = change.live
    if live is None:
        return False
    manifest = _deployment(change.desired)
    metadata, spec = manifest.body["metadata"], manifest.body["spec"]
    if TEMPLATE_ANNOTATION in live.annotations:
        return bool(live.annotations[TEMPLATE_ANNOTATION] != metadata["annotations"][TEMPLATE_ANNOTATION])
    # By a version that did not write it, or admission takes it away: what is left is a hash of all, the replicas of then too.
    plain = {name: value for name, value in metadata.items() if name != "annotations"}
    as_live = {"replicas": live.spec.get("replicas", 1)} if "replicas" in spec else {}
    return all(
        planning.is_new(replace(manifest, body={**manifest.body, "metadata": known, "spec": of}), live)
        for known in (plain, metadata)
        for of in (spec, {**spec, **as_live})
    )


def unmarked(due: Plan, standing: Standing, observed: Observed) -> Plan:
    """With the mark of an upgrade taken off that is over, where the Deployment is not written: else the endpoint's next trouble
    would be taken for the upgrade's."""
    written = {child.uid for _, child in due.update}
    over = tuple(
        (live, {UPGRADING_ANNOTATION: None})
        for live in observed.of_kind(DEPLOYMENT)
        if standing in (Standing.NONE, Standing.THROUGH)
        and UPGRADING_ANNOTATION in live.annotations
        and live.uid not in written
        and not live.deleting
    )
    return replace(due, annotate=(*due.annotate, *over))


def frozen(resource: Raw, observed: Observed) -> Plan:
    """Of a spec that can't be carried out: what can be all the same, and to write down for which spec its pods were made, where
    an older version has not. Else a change of now would be told as the installation's by when it is allowed, and wait."""
    made_for = {SPEC_ANNOTATION: UNKNOWN if _is_news(resource) else spec_hash(resource)}
    annotate = tuple(
        (live, made_for)
        for live in observed.of_kind(DEPLOYMENT)
        if not live.annotations.keys() & {SPEC_ANNOTATION, TEMPLATE_ANNOTATION}
        and TEMPLATE_PATH not in live.refused
        and not live.deleting
    )
    return replace(planning.frozen(resource, observed), annotate=annotate)


def server(resource: Raw, settings: Settings) -> str:
    """What server an endpoint gets, as far as the installation decides."""
    own = _mapping(resource.get("spec")).get("image")
    return str(own or f"{settings.server_repository}:{settings.server_version}")


def paused(resource: Raw, settings: Settings) -> tuple[str, ...]:
    """What holds upgrades of the endpoint, of its users' doing or of who runs the operator, in words; nothing, if none does."""
    value = _annotation(resource)
    doubt = "" if value == "true" else f" (it says {value!r}, which counts as true)"
    is_held = settings.endpoints_may_pause and value != "false"
    own = f"the annotation {PAUSED_ANNOTATION}{doubt}" if is_held else ""
    return tuple(each for each in (own, "paused in the operator's configuration" * settings.paused) if each)


def passed_over(resource: Raw) -> bool:
    """Whether the endpoint's annotation has others not wait for it should it fail, whether or not it may pause."""
    return _annotation(resource) != "false"


def edited(change: Change) -> bool:
    """Whether somebody else has what is declared of the Deployment."""
    return change.live is not None and planning.edited(_deployment(change.desired), change.live)


def spec_hash(resource: Raw) -> str:
    """Of what a spec says of pods. Of what faces the users, they are told whose proxy is in front of them."""
    spec = without_nulls(_mapping(resource.get("spec")))
    front = _mapping(spec.get("ingress")).get("class") if "host" in spec else None
    by_load = "targetInFlight" in _mapping(spec.get("autoscaling"))  # which defaults for limits don't go with
    return _hash([{name: value for name, value in spec.items() if name not in NOT_OF_PODS}, front, by_load])


def _annotation(resource: Raw) -> str:
    """What it says of pausing. A value that is neither true nor false is taken for true: to hold harms less."""
    return str((resource["metadata"].get("annotations") or {}).get(PAUSED_ANNOTATION) or "false")


def _waits_its_turn(resource: Raw, manifest: Manifest, live: Child, marks: Mapping[str, str]) -> bool:
    if live.deleting or live.spec.get("replicas", 1) == 0 or planning.is_suspended(resource):
        return False  # no pods, nobody who could lose something
    if TEMPLATE_PATH in live.refused:
        return False  # admission takes away what it would be known by
    own = live.annotations.get(SPEC_ANNOTATION) != marks[SPEC_ANNOTATION]
    if TEMPLATE_ANNOTATION in live.annotations:
        return live.annotations[TEMPLATE_ANNOTATION] != marks[TEMPLATE_ANNOTATION] and not own
    # By a version that did not write it.
    known = [planning.fingerprint(each) for each in (manifest, *_marked_all([manifest], marks))]
    news = own if SPEC_ANNOTATION in live.annotations else _is_news(resource)
    return live.applied_hash not in known and not news


def _is_news(resource: Raw) -> bool:
    """Whether the spec has changed since somebody looked at it last."""
    observed = (resource.get("status") or {}).get("observedGeneration")
    return bool(observed != resource["metadata"].get("generation"))


def _boarding(desired: tuple[Manifest, ...], progress: Progress, now: datetime) -> tuple[Manifest, ...]:
    """With the mark that the Deployment is on its way, if it has none yet."""
    annotations = _deployment(desired).body["metadata"]["annotations"]
    if UPGRADING_ANNOTATION in annotations:
        return desired
    since = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    whole, template = progress.serves == WHOLE, annotations[TEMPLATE_ANNOTATION]
    mark = Mark(since, template, whole, progress.needed, progress.server)
    return _marked_all(desired, {UPGRADING_ANNOTATION: str(mark)})


def _deployment(desired: Iterable[Manifest]) -> Manifest:
    return next(each for each in desired if each.kind is DEPLOYMENT)


def _marked_all(desired: Iterable[Manifest], marks: Mapping[str, str]) -> tuple[Manifest, ...]:
    """With annotations on the Deployment."""
    return tuple(_marked(each, marks) if each.kind is DEPLOYMENT else each for each in desired)


def _marked(manifest: Manifest, marks: Mapping[str, str]) -> Manifest:
    metadata = manifest.body["metadata"]
    annotations = {**metadata.get("annotations", {}), **marks}
    return replace(manifest, body={**manifest.body, "metadata": {**metadata, "annotations": annotations}})


def _mapping(value: Any) -> Mapping[str, Any]:
    """What has to be one, as a spec that makes no sense is asked about as well."""
    return value if isinstance(value, Mapping) else {}


def _hash(value: Any) -> str:
    """The same on every machine, and in every version: another would look like a change of every endpoint's spec."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
