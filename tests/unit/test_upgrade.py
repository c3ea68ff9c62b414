"""What is a change of the endpoint's own, and what is the installation's: told from a Deployment's own annotations."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from whisper_operator.apply import upgrade
from whisper_operator.apply.plan import HASH_PATH, Plan, applied, fingerprint, lost
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    SPEC_ANNOTATION,
    TEMPLATE_ANNOTATION,
    UPGRADING_ANNOTATION,
)
from whisper_operator.observed.children import Child, Observed
from whisper_operator.policy.defaults import completed
from whisper_operator.rollouts.progress import COMPLETE, WHOLE, Mark, Progress, Standing
from whisper_operator.rollouts.turn import Turn
from whisper_operator.spec.endpoint import parse
from whisper_operator.spec.fields import without_nulls

from tests.unit.fleet import NEXT
from tests.unit.making import SETTINGS, Body, child, declared, seen
from tests.unit.test_every_field import SPEC, Path_, leaves, two_specs

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SERVING = {
    "observedGeneration": 1,
    **{"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    "conditions": [{"type": "Progressing", "status": "True", "reason": COMPLETE}],
}


def resource(spec: Body, generation: int = 1, observed: int = 1) -> Body:
    metadata = {"name": "whisper", "namespace": "asr", "uid": "u-1", "generation": generation}
    return {"metadata": metadata, "spec": spec, "status": {"observedGeneration": observed}}


def change(
    spec: Body,
    observed: Observed | None = None,
    settings: Settings = SETTINGS,
    standing: Standing = Standing.NONE,
    server: str = "",
    **of: int,
) -> upgrade.Change:
    observed, raw = observed or Observed.nothing(), resource(spec, **of)
    desired = declared(spec, observed, settings)
    return upgrade.of(raw, parse(raw, settings), desired, observed, standing, server)


def plan(found: upgrade.Change, turn: Turn, there: Observed) -> Plan:
    return upgrade.plan(found, turn, Progress.of(there, NOW, server="r/s:2"), there, NOW)


def deployment(found: upgrade.Change) -> Any:
    return next(each for each in found.desired if each.kind is DEPLOYMENT)


def annotations(found: upgrade.Change) -> dict[str, str]:
    return dict(deployment(found).body["metadata"]["annotations"])


def live(of: Body, settings: Settings = SETTINGS, **values: Any) -> Child:
    """The Deployment as it was made for a spec."""
    made = deployment(change(of, settings=settings))
    body = applied(made)
    at = {"annotations": body["metadata"]["annotations"], "applied_hash": fingerprint(made)}
    made_of = child(DEPLOYMENT, spec={"replicas": body["spec"].get("replicas", 1)}, status=SERVING)
    return replace(made_of, **{**at, **values})


@pytest.mark.parametrize(
    ("path", "schema", "required"), [pytest.param(*each, id=".".join(each[0])) for each in leaves(SPEC)]
)
def test_each_field_that_changes_pods_is_a_change_of_the_endpoints_own(
    path: Path_, schema: Body, required: bool
) -> None:
    """Or it would wait for the upgrades of others. And whoever changes what is of no pod leaves an upgrade waiting."""
    one, other = (change(spec) for spec in two_specs(path, schema, required))
    pods = annotations(one)[TEMPLATE_ANNOTATION] != annotations(other)[TEMPLATE_ANNOTATION]
    own = annotations(one)[SPEC_ANNOTATION] != annotations(other)[SPEC_ANNOTATION]
    assert own or not pods
    if path[0] in upgrade.NOT_OF_PODS and path not in (
        ("ingress", "class"),
        ("autoscaling", "targetInFlight"),
    ):
        assert not own


EVERY_DEFAULT: Body = {
    "model": "small",
    "engine": "faster-whisper",
    "accelerator": {"type": "nvidia-l4"},
    "resources": {"requests": {"cpu": 3}},
    "defaults": {"language": "de"},
    "limits": {"maxQueue": 7, "requestTimeoutSeconds": 99},
    "cors": {"allowedOrigins": ["https://a.example.com"]},
    "ingress": {"httpsRedirect": False},
    "scheduling": {"podLabels": {"a": "b"}},
    "rollout": "Recreate",
}


@pytest.mark.parametrize(
    ("path", "schema", "required"), [pytest.param(*each, id=".".join(each[0])) for each in leaves(SPEC)]
)
def test_each_field_that_has_another_default_hold_is_a_change_of_the_endpoints_own(
    path: Path_, schema: Body, required: bool
) -> None:
    """Some defaults don't go with what a spec says, so that a field may change pods by itself or by the default that it ends."""

    def marks(spec: Body) -> dict[str, str]:
        raw, whole = resource(spec), dict(completed(without_nulls(spec), EVERY_DEFAULT))
        made = declared(whole, Observed.nothing())
        return annotations(upgrade.of(raw, parse({**raw, "spec": whole}, SETTINGS), made, Observed.nothing()))

    one, other = (marks(spec) for spec in two_specs(path, schema, required))
    same = one[TEMPLATE_ANNOTATION] == other[TEMPLATE_ANNOTATION]
    assert same or one[SPEC_ANNOTATION] != other[SPEC_ANNOTATION]


@pytest.mark.parametrize("name", ["host", "ingress"])
def test_a_proxy_in_front_is_told_to_the_pods(name: str) -> None:
    """Neither of the two changes pods by itself."""
    both = {"host": "w.example.com", "ingress": {"class": "traefik"}}
    one, other = change(both), change({key: value for key, value in both.items() if key != name})
    assert annotations(one)[SPEC_ANNOTATION] != annotations(other)[SPEC_ANNOTATION]
    assert annotations(one)[TEMPLATE_ANNOTATION] != annotations(other)[TEMPLATE_ANNOTATION]


def test_the_hash_of_a_spec_is_the_same_in_every_version() -> None:
    """Another would make every upgrade a change of the endpoints' own, which does not wait."""
    spec = {"model": "small", "replicas": 2, "host": "w.example.com", "limits": {"maxQueue": 7}, "auth": None}
    assert upgrade.spec_hash(resource(spec)) == "b4d5b41f38060e1c"
    assert upgrade.spec_hash(resource({})) == "f9e4bf6dd99a1918"


@pytest.mark.parametrize("spec", ["x", ["image"], {"ingress": "x", "host": "y", "autoscaling": 1}])
def test_a_spec_that_is_none_is_of_the_server_of_all_and_has_a_hash(spec: Any) -> None:
    """A CRD of somebody else's may let such through, and all else that is known of its endpoint is to be told."""
    assert upgrade.server(resource(spec), NEXT).endswith(":2.0.0")
    assert upgrade.spec_hash(resource(spec))


def test_the_installations_doing_is_told_from_the_endpoints_own() -> None:
    spec: Body = {"model": "small"}
    there = seen(live(spec))
    assert not change(spec, there).waits
    assert change(spec, there, NEXT).waits
    assert not change({"model": "tiny"}, there, NEXT).waits
    assert change({**spec, "replicas": 3}, there, NEXT).waits
    assert not change({**spec, "suspend": True}, there, NEXT).waits
    assert not change(spec, seen(live(spec, spec={"replicas": 0})), NEXT).waits
    assert not change(spec, seen(live(spec, deleting=True)), NEXT).waits
    assert not change(spec, Observed.nothing(), NEXT).waits


def older(spec: Body, settings: Settings = SETTINGS) -> Child:
    """As a version made it that did not write down what for."""
    (made,) = (each for each in declared(spec, Observed.nothing(), settings) if each.kind is DEPLOYMENT)
    return live(spec, annotations={}, applied_hash=fingerprint(made))


def test_what_an_older_version_made_stays_or_waits() -> None:
    there = seen(older({}))
    assert not change({}, there).waits  # only the annotations are new
    assert change({}, there, NEXT).waits
    assert not change({}, there, NEXT, generation=2).waits  # which the older version has not seen


def test_pods_that_an_older_version_made_are_new_ones_only_where_something_changes() -> None:
    """Else an endpoint whose pods take long to end would wait for them to be left as it is, or to be given fewer."""
    there = seen(older({"replicas": 3}))
    for spec in ({"replicas": 3}, {"replicas": 1}, {"replicas": 5}):
        assert not upgrade.gives_new_pods(change(spec, there)), spec
    assert upgrade.gives_new_pods(change({"replicas": 3, "model": "tiny"}, there))
    assert upgrade.gives_new_pods(change({"replicas": 1}, there, NEXT))
    scaled = {"autoscaling": {"min": 2, "max": 5}}
    by_load = replace(older(scaled), spec={"replicas": 4}, scaled_by_others=True)
    made = (each for each in declared(scaled, seen(by_load)) if each.kind is DEPLOYMENT)
    there = seen(replace(by_load, applied_hash=fingerprint(next(made))))
    assert not upgrade.gives_new_pods(change(scaled, there))
    assert upgrade.gives_new_pods(change({**scaled, "model": "tiny"}, there))
    bare = live({}, annotations={})  # by admission
    assert not upgrade.gives_new_pods(change({}, seen(bare)))
    hashless = live({}, annotations={}, applied_hash=None)
    known = f"{HASH_PATH}={fingerprint(deployment(change({})))}"
    assert not upgrade.gives_new_pods(change({}, seen(replace(hashless, refused=frozenset({known})))))
    assert not upgrade.gives_new_pods(change({}, seen(live({}))))
    assert upgrade.gives_new_pods(change({"model": "tiny"}, seen(live({}))))


def test_what_an_older_version_made_and_waits_is_known_by_its_spec_from_then_on() -> None:
    """Or its own next change, made while the operator is away or the status can't be written, would wait for others."""
    there = older({})
    found = change({}, seen(there), NEXT)
    due = plan(found, Turn.WAIT, seen(there))
    assert due.annotate == ((there, {SPEC_ANNOTATION: upgrade.spec_hash(resource({}))}),)
    known = replace(there, annotations=dict(due.annotate[0][1]))
    assert change({}, seen(known), NEXT, generation=2).waits  # somebody's change of replicas, say
    assert plan(change({}, seen(known), NEXT), Turn.WAIT, seen(known)).annotate == ()
    assert not change({"model": "tiny"}, seen(known), NEXT).waits


@pytest.mark.parametrize("settings", [SETTINGS, NEXT])
def test_where_admission_takes_the_annotations_away_nothing_waits_and_nothing_is_written_for_ever(
    settings: Settings,
) -> None:
    path = f"metadata.annotations.{TEMPLATE_ANNOTATION}"
    bare = live({}, annotations={}, refused=frozenset({path, HASH_PATH}))
    assert not change({}, seen(bare), settings).waits
    assert not change({}, seen(live({}, annotations={}))).waits  # after a restart


def test_what_is_held_is_the_deployment_but_for_its_replicas() -> None:
    there = seen(live({}))
    found = change({"replicas": 3}, there, NEXT)
    due = plan(found, Turn.WAIT, there)
    assert due.scale == ((there.only(DEPLOYMENT, "whisper"), 3),)
    assert due.update == ()
    assert {each.kind.name for each in due.create} == {"NetworkPolicy", "Service", "PodDisruptionBudget"}
    due = plan(change({}, there, NEXT), Turn.PAUSED, there)
    assert due.scale == ()


def test_what_somebody_changed_by_hand_is_told_of_while_it_is_held() -> None:
    image: Body = {
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': {"f:image": {}}}}}}
    }
    ours: Body = {
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"server"}': {"f:name": {}}}}}}
    }

    def told(theirs: Body) -> bool:
        there = live({}, own_fields=json.dumps(ours), others_fields=json.dumps(theirs))
        return upgrade.edited(change({}, seen(there), NEXT))

    assert told(image)
    assert not told({"f:spec": {"f:replicas": {}}})
    assert not told({})


def test_an_autoscaler_goes_on_while_the_deployment_is_held() -> None:
    spec = {"autoscaling": {"min": 2, "max": 5}}
    there = seen(live(spec, spec={"replicas": 4}, scaled_by_others=True))
    due = plan(change(spec, there, NEXT), Turn.WAIT, there)
    assert (due.scale, due.update) == ((), ())


def boarded(spec: Body, there: Child, settings: Settings = NEXT) -> str:
    """The mark that a Deployment gets."""
    ((written, _),) = plan(change(spec, seen(there), settings), Turn.BOARD, seen(there)).update
    return str(written.body["metadata"]["annotations"][UPGRADING_ANNOTATION])


def marked(mark: str, status: Body, settings: Settings = NEXT, spec: Body | None = None) -> Child:
    """A Deployment that has it."""
    made = live(spec or {}, settings, status=status)
    return replace(made, annotations={**made.annotations, UPGRADING_ANNOTATION: mark})


STARTING = {**SERVING, "replicas": 2, "conditions": []}


def test_a_deployment_on_its_way_says_to_what_and_since_when_until_it_has_served() -> None:
    mark = boarded({}, live({}))
    template = annotations(change({}, settings=NEXT))[TEMPLATE_ANNOTATION]
    assert mark == f"2026-01-31T12:00:00Z/{template}/whole/1/r/s:2"

    def then(spec: Body, standing: Standing, settings: Settings = NEXT) -> str | None:
        server = f"r/s:{str(settings.server_version)[0]}"
        found = change(spec, seen(marked(mark, STARTING)), settings, standing, server)
        return annotations(found).get(UPGRADING_ANNOTATION)

    later = replace(NEXT, server_version="3.0.0")
    after = annotations(change({}, settings=later))[TEMPLATE_ANNOTATION]
    for standing in (Standing.ROLLING, Standing.FAILED, Standing.ASIDE):
        assert then({}, standing) == then({"rollout": "Recreate"}, standing) == mark
        assert then({}, Standing.THROUGH) is None
    for standing in (Standing.ROLLING, Standing.FAILED):
        assert then({}, standing, later) == f"2026-01-31T12:00:00Z/{after}/whole/1/r/s:3"
        assert str(then({"model": "tiny"}, standing)).startswith("2026-01-31T12:00:00Z/")
    assert then({}, Standing.ASIDE, later) is None  # it has no place, and gets one anew
    assert then({"model": "tiny"}, Standing.ASIDE) is None


def test_one_that_is_not_whole_says_so_when_it_boards() -> None:
    lacking = live({}, status={**SERVING, "replicas": 2, "availableReplicas": 1})
    mark = Mark.of(marked(boarded({}, lacking), STARTING))
    assert mark is not None
    assert not mark.whole


def standing(mark: str, status: Body, fault: str = "", **of: Any) -> Standing:
    return Progress.of(seen(marked(mark, status)), NOW, fault=fault, **of).standing


@pytest.mark.parametrize(
    "fault", ["CrashLooping", "ImagePullFailed", "RolloutStuck", "ServerSettingsInvalid"]
)
def test_an_upgrade_fails_by_what_may_be_the_new_pods_own_fault(fault: str) -> None:
    mark, lacking = boarded({}, live({})), boarded({}, live({}, status=STARTING))
    assert standing(mark, STARTING) is Standing.ROLLING
    assert standing(mark, STARTING, fault) is Standing.FAILED
    assert standing(mark, STARTING, fault, passed_over=True) is Standing.ASIDE
    assert standing(mark, STARTING, passed_over=True) is Standing.ROLLING  # it has not failed yet
    assert standing(lacking, STARTING, fault) is Standing.ASIDE
    assert standing(mark, SERVING, fault) is Standing.THROUGH


@pytest.mark.parametrize("fault", ["QuotaExceeded", "SecretMissing", "VolumeClaimMissing", "NoGPUQuota"])
def test_what_is_around_an_endpoint_is_no_evidence_while_it_serves(fault: str) -> None:
    mark = boarded({}, live({}))
    assert standing(mark, STARTING, fault) is Standing.ASIDE
    assert standing(mark, {**STARTING, "availableReplicas": 0}, fault) is Standing.FAILED


def test_an_upgrade_is_through_when_it_has_served_for_a_while() -> None:
    """A version may come up, and fall at its first request."""

    def at(since: str | None, again: str | None = "2026-01-01T00:00:00Z") -> Progress:
        conditions = [
            {"type": "Progressing", "status": "True", "reason": COMPLETE, "lastUpdateTime": since},
            {"type": "Available", "status": "True", "lastTransitionTime": again},
        ]
        there = marked(boarded({}, live({})), {**SERVING, "conditions": conditions})
        return Progress.of(seen(there), NOW, settle_seconds=30)

    assert (at("2026-01-31T11:59:40Z").standing, at("2026-01-31T11:59:40Z").settles_in) == (
        Standing.ROLLING,
        10,
    )
    assert at("2026-01-31T11:59:30Z").standing is Standing.THROUGH
    assert at("2026-01-31T11:50:00Z", again="2026-01-31T11:59:50Z").settles_in == 20
    assert at(None, again="2026-01-31T11:59:50Z").settles_in == 20  # as a time is written that was not set
    assert at(None, again=None).settles_in == 0


def test_what_is_asked_for_since_is_not_the_upgrades_to_bring() -> None:
    there = marked(boarded({}, live({})), {**SERVING, "replicas": 5, "updatedReplicas": 5})
    assert Progress.of(seen(replace(there, spec={"replicas": 5})), NOW).standing is Standing.THROUGH


def test_a_mark_for_other_pods_means_nothing_and_is_taken_off() -> None:
    there = marked("2026-01-31T12:00:00Z/0000/whole/1", STARTING)
    assert Progress.of(seen(there), NOW, fault="CrashLooping").standing is Standing.NONE
    assert Mark.of(marked("anything", STARTING)) is None
    long = boarded({}, live({})).replace("/1/", f"/{'9' * 5000}/")  # which no Python reads as a number
    assert Mark.of(marked(long, STARTING)) is None
    off = ((there, {UPGRADING_ANNOTATION: None}),)
    assert upgrade.unmarked(Plan(), Standing.NONE, seen(there)).annotate == off
    assert upgrade.unmarked(Plan(), Standing.THROUGH, seen(there)).annotate == off
    assert upgrade.unmarked(Plan(), Standing.ROLLING, seen(there)).annotate == ()
    written = Plan(update=((deployment(change({})), there),))
    assert upgrade.unmarked(written, Standing.NONE, seen(there)) == written


@pytest.mark.parametrize(
    "status",
    [
        {**SERVING, "observedGeneration": 0},
        {**SERVING, "updatedReplicas": 0},
        {**SERVING, "availableReplicas": 0},
        {**SERVING, "replicas": 2},
        {},
    ],
)
def test_an_endpoint_is_whole_when_it_is_of_one_template_and_serves(status: Body) -> None:
    assert Progress.of(seen(live({})), NOW).serves == WHOLE
    assert Progress.of(seen(live({}, status=status)), NOW).serves != WHOLE


def test_a_mark_that_others_bring_back_is_taken_back() -> None:
    """As an undone rollout does; an endpoint that is not on its way must not stand for one whose upgrade fails."""
    theirs: Body = {"f:metadata": {"f:annotations": {f"f:{UPGRADING_ANNOTATION}": {}}}}
    there = live({}, others_fields=json.dumps(theirs))
    found = lost(deployment(change({}, seen(there))), there)
    assert f"metadata.annotations.{UPGRADING_ANNOTATION}" in found
