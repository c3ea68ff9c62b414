"""What is a change of the endpoint's own, and what is the installation's: told from a Deployment's own annotations."""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from whisper_operator.apply import upgrade
from whisper_operator.apply.plan import HASH_PATH, applied, fingerprint, lost
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    SPEC_ANNOTATION,
    TEMPLATE_ANNOTATION,
    UPGRADING_ANNOTATION,
)
from whisper_operator.observed.children import Child, Observed
from whisper_operator.rollouts.progress import COMPLETE, LACKED, PARTLY, Progress
from whisper_operator.rollouts.train import Turn

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


def change(spec: Body, observed: Observed | None = None, settings: Settings = SETTINGS) -> upgrade.Change:
    observed = observed or Observed.nothing()
    return upgrade.of(resource(spec), declared(spec, observed, settings), observed)


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
    if path[0] in upgrade.NOT_OF_PODS and path != ("ingress", "class"):
        assert not own


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
    assert upgrade.spec_hash(resource(spec)) == "41d532dbdefecb7d"
    assert upgrade.spec_hash(resource({})) == "f430e673d93ac3f8"


def test_the_installations_doing_is_told_from_the_endpoints_own() -> None:
    spec: Body = {"model": "small"}
    there = seen(live(spec))
    assert change(spec, there).progress is None
    assert change(spec, there, NEXT).progress == Progress.of(live(spec), None)
    assert change({"model": "tiny"}, there, NEXT).progress is None
    assert change({**spec, "replicas": 3}, there, NEXT).progress is not None
    assert change({**spec, "suspend": True}, there, NEXT).progress is None
    assert change(spec, seen(live(spec, spec={"replicas": 0})), NEXT).progress is None
    assert change(spec, seen(live(spec, deleting=True)), NEXT).progress is None
    assert change(spec, Observed.nothing(), NEXT).progress is None


def older(spec: Body, settings: Settings = SETTINGS) -> Child:
    """As a version made it that did not write down what for."""
    (made,) = (each for each in declared(spec, Observed.nothing(), settings) if each.kind is DEPLOYMENT)
    return live(spec, annotations={}, applied_hash=fingerprint(made))


def test_what_an_older_version_made_stays_or_waits() -> None:
    there = seen(older({}))
    assert change({}, there).progress is None  # only the annotations are new
    assert change({}, there, NEXT).progress is not None
    (made,) = (each for each in declared({}, there, NEXT) if each.kind is DEPLOYMENT)
    own = upgrade.of(resource({}, generation=2), [made], there)  # which the older version has not seen
    assert own.progress is None


@pytest.mark.parametrize("settings", [SETTINGS, NEXT])
def test_where_admission_takes_the_annotations_away_nothing_waits_and_nothing_is_written_for_ever(
    settings: Settings,
) -> None:
    path = f"metadata.annotations.{TEMPLATE_ANNOTATION}"
    bare = live({}, annotations={}, refused=frozenset({path, HASH_PATH}))
    assert change({}, seen(bare), settings).progress is None
    assert change({}, seen(live({}, annotations={}))).progress is None  # after a restart


def test_what_is_held_is_the_deployment_but_for_its_replicas() -> None:
    there = seen(live({}))
    found = change({"replicas": 3}, there, NEXT)
    due = upgrade.plan(found, Turn.WAIT, there, NOW)
    assert due.scale == ((there.only(DEPLOYMENT, "whisper"), 3),)
    assert due.update == ()
    assert {each.kind.name for each in due.create} == {"NetworkPolicy", "Service", "PodDisruptionBudget"}
    due = upgrade.plan(change({}, there, NEXT), Turn.STOPPED, there, NOW)
    assert due.scale == ()


def test_an_autoscaler_goes_on_while_the_deployment_is_held() -> None:
    spec = {"autoscaling": {"min": 2, "max": 5}}
    there = seen(live(spec, spec={"replicas": 4}, scaled_by_others=True))
    due = upgrade.plan(change(spec, there, NEXT), Turn.WAIT, there, NOW)
    assert (due.scale, due.update) == ((), ())


def test_a_deployment_on_its_way_says_since_when_until_it_serves() -> None:
    there = seen(live({}))
    (written,) = (body for body, _ in upgrade.plan(change({}, there, NEXT), Turn.BOARD, there, NOW).update)
    mark = written.body["metadata"]["annotations"][UPGRADING_ANNOTATION]
    assert mark == "2026-01-31T12:00:00Z"

    def then(spec: Body, status: Body, settings: Settings) -> dict[str, str]:
        on_its_way = live({}, NEXT, status=status)
        marked = {**on_its_way.annotations, UPGRADING_ANNOTATION: mark}
        return annotations(change(spec, seen(replace(on_its_way, annotations=marked)), settings))

    starting = {**SERVING, "replicas": 2, "conditions": []}
    later = replace(NEXT, server_version="3.0.0")
    assert then({}, starting, NEXT)[UPGRADING_ANNOTATION] == mark
    assert then({}, starting, later)[UPGRADING_ANNOTATION] == mark
    assert then({"rollout": "Recreate"}, starting, NEXT)[UPGRADING_ANNOTATION] == mark
    assert UPGRADING_ANNOTATION not in then({}, SERVING, NEXT)
    assert UPGRADING_ANNOTATION not in then({"model": "tiny"}, starting, NEXT)  # its own from now on


def test_one_that_is_not_whole_proves_nothing() -> None:
    there = seen(live({}, status={**SERVING, "replicas": 2, "availableReplicas": 1}))
    found = change({}, there, NEXT)
    assert found.progress is not None
    assert found.progress.serves == PARTLY
    (written,) = (body for body, _ in upgrade.plan(found, Turn.BOARD, there, NOW).update)
    mark = written.body["metadata"]["annotations"][UPGRADING_ANNOTATION]
    assert mark == f"2026-01-31T12:00:00Z{LACKED}"


@pytest.mark.parametrize(
    ("stalled", "failed"),
    [
        (None, False),
        ("2026-01-31T12:00:01Z", True),
        ("2026-01-31T11:59:59Z", False),  # of something else, and before
    ],
)
def test_an_upgrade_fails_when_somebody_has_to_act(stalled: str | None, failed: bool) -> None:
    marked = {UPGRADING_ANNOTATION: "2026-01-31T12:00:00Z"}
    starting = {**SERVING, "replicas": 2, "conditions": []}
    progress = Progress.of(live({}, annotations=marked, status=starting), None)
    of = copy.deepcopy(resource({}))
    if stalled:
        of["status"]["conditions"] = [{"type": "Stalled", "status": "True", "lastTransitionTime": stalled}]
    assert progress.failed(of) is failed


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
def test_a_deployment_is_complete_when_it_is_of_one_template_and_serves(status: Body) -> None:
    assert Progress.of(live({}), None).complete
    assert not Progress.of(live({}, status=status), None).complete


def test_a_mark_that_others_bring_back_is_taken_back() -> None:
    """As an undone rollout does; an endpoint that is not on its way must not stand for one whose upgrade fails."""
    theirs: Body = {"f:metadata": {"f:annotations": {f"f:{UPGRADING_ANNOTATION}": {}}}}
    there = live({}, others_fields=json.dumps(theirs))
    found = lost(deployment(change({}, seen(there))), there)
    assert f"metadata.annotations.{UPGRADING_ANNOTATION}" in found
