"""How many replicas are declared, and when: beside an autoscaler, and beside a change of strategy."""

import pytest
from whisper_operator.kube.kinds import DEPLOYMENT
from whisper_operator.manifests import Manifest
from whisper_operator.observed.children import Child, Observed

from tests.unit.making import SCALED, Body, child, declared, made, seen


def deployment_of(spec: Body, observed: Observed) -> Manifest:
    return next(each for each in declared(spec, observed) if each.kind is DEPLOYMENT)


@pytest.mark.parametrize(
    ("live", "number"),
    [
        (None, 2),  # nobody has set it yet: it would be 1
        (child(DEPLOYMENT, spec={"replicas": 3}), 3),  # ours, from when their number was fixed
        (child(DEPLOYMENT, spec={"replicas": 1}), 1),  # raised by the autoscaler, not by us
        (child(DEPLOYMENT, spec={"replicas": 4}, scaled_by_others=True), None),
        (child(DEPLOYMENT, spec={"replicas": 0}), 2),  # was suspended
        (child(DEPLOYMENT, spec={"replicas": 0}, scaled_by_others=True), 2),  # an autoscaler is off at 0
    ],
)
def test_the_number_of_replicas_is_declared_until_the_autoscaler_has_set_one(
    live: Child | None, number: int | None
) -> None:
    observed = seen(*([live] if live else []))
    deployment = deployment_of(SCALED, observed)
    assert deployment.body["spec"].get("replicas") == number
    # What was read is written back only as long as it is the newest.
    assert deployment.expected_resource_version == (7 if live else None)


ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
RECREATE = {"type": "Recreate"}


@pytest.mark.parametrize(
    ("live", "observed", "spec", "number", "expected_resource_version"),
    [
        (ROLLING, 1, {"rollout": "Recreate"}, 5, 7),
        (RECREATE, 0, {"rollout": "Recreate"}, 5, 7),  # told, and not taken up yet
        (RECREATE, 1, {"rollout": "Recreate"}, 2, None),
        (RECREATE, 0, {}, 2, None),
        (ROLLING, 0, {}, 2, None),
        (ROLLING, 1, {"rollout": "Recreate", "suspend": True}, 5, 7),
        (RECREATE, 1, {"rollout": "Recreate", "suspend": True}, 0, None),
    ],
)
def test_the_strategy_is_changed_to_recreate_before_the_number_of_replicas(
    live: Body, observed: int, spec: Body, number: int, expected_resource_version: int | None
) -> None:
    status = {"observedGeneration": observed}
    there = child(DEPLOYMENT, spec={"replicas": 5, "strategy": live}, status=status)
    deployment = deployment_of({"replicas": 2, **spec}, seen(there))
    assert deployment.body["spec"]["replicas"] == number
    assert deployment.body["spec"]["strategy"]["type"] == spec.get("rollout", "RollingUpdate")
    assert deployment.expected_resource_version == expected_resource_version


@pytest.mark.parametrize("spec", [{"replicas": 3}, {"suspend": True, **SCALED}, {}])
def test_a_fixed_number_of_replicas_is_declared_whoever_else_has_set_one(spec: Body) -> None:
    live = child(DEPLOYMENT, spec={"replicas": 9}, scaled_by_others=True)
    wanted = 0 if spec.get("suspend") else spec.get("replicas", 1)
    assert made(spec, seen(live))["Deployment/whisper"]["spec"]["replicas"] == wanted
