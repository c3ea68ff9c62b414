"""A new pod template: served without a gap, or without a second GPU, as the spec says."""

from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator
from devcluster.stage_parts import FAULT
from tests.cluster.history import History
from tests.cluster.support import children, condition, endpoint, patch, until, wait_for_condition

SLOW = {
    "podAnnotations": {
        FAULT: "slow-start",
        "devcluster.whisper-operator.io/start-duration": "3s",
    }
}
"""Pods take their time until they are ready, as they do when they load a model."""


def roll(cluster: Cluster, namespace: str, folder: Path, **spec: Any) -> list[dict[str, Any]]:
    """Every status that the Deployment has had from a change of the pods to the new ones' being Ready."""
    with History(cluster, namespace, folder, "deployments") as history:
        start = history.seen_up_to("deployments", "whisper")
        patch(cluster, namespace, **spec)
        resource = wait_for_condition(cluster, namespace, "whisper")
        history.seen_up_to("deployments", "whisper")
        found = [state.body["status"] for state in history.states(since=start)]
    assert resource["status"]["readyReplicas"] == 2
    assert any(each.get("updatedReplicas", 0) < 2 for each in found), "nothing was rolled out"
    return found


@pytest.mark.timeout(180)
def test_a_rolling_update_serves_throughout(
    installed: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    installed.apply(endpoint("whisper", namespace, replicas=2, scheduling=SLOW))
    wait_for_condition(installed, namespace, "whisper")
    seen = roll(installed, namespace, tmp_path, limits={"maxQueue": 7})
    assert min(each.get("availableReplicas", 0) for each in seen) == 2
    assert max(each.get("replicas", 0) for each in seen) == 3


@pytest.mark.timeout(180)
def test_a_rolling_recreation_serves_throughout_without_another_gpu(
    installed: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    """Also right after the switch to it, whose change of strategy comes with the change of the pods."""
    installed.apply(endpoint("whisper", namespace, replicas=2, scheduling=SLOW))
    wait_for_condition(installed, namespace, "whisper")
    seen = roll(installed, namespace, tmp_path, limits={"maxQueue": 7}, rollout="RollingRecreate")
    assert min(each.get("availableReplicas", 0) for each in seen) == 1
    assert max(each.get("replicas", 0) for each in seen) == 2


@pytest.mark.timeout(180)
def test_recreate_never_asks_for_a_second_gpu(
    installed: Cluster, operator: Operator, namespace: str, tmp_path: Path
) -> None:
    """Also right after the switch to it, whose change of strategy comes with the change of the pods."""
    installed.apply(endpoint("whisper", namespace, replicas=2, scheduling=SLOW))
    wait_for_condition(installed, namespace, "whisper")
    seen = roll(installed, namespace, tmp_path, limits={"maxQueue": 7}, rollout="Recreate")
    assert max(each.get("replicas", 0) for each in seen) == 2
    assert min(each.get("availableReplicas", 0) for each in seen) == 0
    strategy = children(installed, namespace)["Deployment/whisper"]["spec"]["strategy"]
    assert strategy == {"type": "Recreate"}


def start_what_never_ends(cluster: Cluster, namespace: str, **spec: Any) -> None:
    """Apply an endpoint, then a change of which one new pod never gets ready, as where a second GPU is not to be had."""
    cluster.apply(endpoint("whisper", namespace, **spec))
    replicas = wait_for_condition(cluster, namespace, "whisper")["status"]["readyReplicas"]
    patch(cluster, namespace, scheduling={"podAnnotations": {FAULT: "never-ready"}})

    def waiting() -> bool:
        status = children(cluster, namespace)["Deployment/whisper"]["status"]
        return (status.get("replicas"), status.get("updatedReplicas")) == (replicas + 1, 1)

    until(waiting, "the new pod beside the old ones")


def test_old_pods_serve_while_a_new_one_starts(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    start_what_never_ends(installed, namespace)
    resource = wait_for_condition(installed, namespace, "whisper", "Ready", "False")
    assert condition(resource, "Available")["status"] == "True"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("other", [{}, {"limits": {"maxQueue": 7}}])
def test_a_rollout_that_waits_is_left_by_recreate_and_fewer_replicas_at_once(
    installed: Cluster, operator: Operator, namespace: str, other: dict[str, Any]
) -> None:
    """Kubernetes stops for good at a Deployment that gets both while pods of two templates run."""
    start_what_never_ends(installed, namespace, replicas=3)
    patch(installed, namespace, rollout="Recreate", replicas=2, scheduling=None, **other)
    resource = wait_for_condition(installed, namespace, "whisper")
    assert resource["status"]["replicas"] == resource["status"]["readyReplicas"] == 2
    assert children(installed, namespace)["Deployment/whisper"]["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.timeout(180)
def test_a_rollout_that_waits_is_suspended_and_recreated_at_once(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    start_what_never_ends(installed, namespace)
    patch(installed, namespace, rollout="Recreate", suspend=True)
    until(lambda: not installed.get("pods", "-n", namespace)["items"], "no pods")
    patch(installed, namespace, suspend=None, scheduling=None)
    assert wait_for_condition(installed, namespace, "whisper")["status"]["replicas"] == 1
