"""Autoscaling with Kubernetes' own autoscaler: the number of replicas changes hands, and never dips meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.faults import node_of_its_own
from tests.cluster.history import History
from tests.cluster.metrics_api import MetricsApi
from tests.cluster.support import (
    children,
    condition,
    endpoint,
    live,
    now,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)

SCALED = {"min": 2, "max": 6, "targetInFlight": 5}


@pytest.fixture
def metrics(installed: Cluster, tmp_path: Path) -> Iterator[MetricsApi]:
    with MetricsApi(installed, tmp_path) as api:
        yield api


def replicas(cluster: Cluster, namespace: str) -> int:
    return int(children(cluster, namespace)["Deployment/whisper"]["spec"]["replicas"])


def declares_replicas(cluster: Cluster, namespace: str) -> bool:
    found = cluster.get("deployment", "whisper", "-n", namespace, "--show-managed-fields")
    return any(
        "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        for entry in found["metadata"]["managedFields"]
        if (entry["manager"], entry["operation"]) == ("whisper-operator", "Apply")
    )


def dips(history: History, since: int, least: int) -> list[int]:
    """Numbers of replicas below `least` that were ever asked for since a version."""
    history.seen_up_to("deployments", "whisper")
    asked = [state.body["spec"]["replicas"] for state in history.states("deployments", since=since)]
    return [number for number in asked if number < least]


@pytest.mark.timeout(600)
def test_the_number_of_replicas_changes_hands_without_a_dip(
    installed: Cluster, operator: Operator, namespace: str, metrics: MetricsApi, tmp_path: Path
) -> None:
    installed.apply(endpoint("whisper", namespace, replicas=3))
    wait_for_condition(installed, namespace, "whisper")
    with History(installed, namespace, tmp_path, "deployments") as history:
        settled = history.seen_up_to("deployments", "whisper")

        # From a fixed number to the autoscaler, which at this load has no reason to change it.
        metrics.in_flight[namespace] = 5
        patch(installed, namespace, replicas=None, autoscaling=SCALED)
        resource = wait_for_condition(installed, namespace, "whisper")
        assert condition(resource, "AutoscalingReady")["reason"] == "Active"
        effective = resource["status"]["effective"]
        assert (effective["minReplicas"], effective["maxReplicas"]) == (2, 6)
        assert "replicas" not in effective
        assert replicas(installed, namespace) == 3
        assert declares_replicas(installed, namespace)  # dropping it now would make it 1
        patch(installed, namespace, limits={"maxQueue": 40})
        wait_for_condition(installed, namespace, "whisper")
        assert dips(history, settled, 3) == []

        # More load: from the autoscaler's first write on, the number is its own.
        metrics.in_flight[namespace] = 20
        until(lambda: replicas(installed, namespace) == 6, "six replicas")
        until(lambda: not declares_replicas(installed, namespace), "the operator lets go")
        wait_for_condition(installed, namespace, "whisper")
        scaled = history.seen_up_to("deployments", "whisper")
        patch(installed, namespace, limits={"maxQueue": 50})
        wait_for_condition(installed, namespace, "whisper")
        wait_until_quiet(installed)
        operator.stop()
        start = now()
        operator.start().wait_until_working()
        wait_until_quiet(installed)
        assert writes(installed, start, namespace) == []
        assert dips(history, scaled, 6) == []
        assert dips(history, settled, 3) == []

        # Back to a fixed number: the same, whatever the load says.
        start = now()
        patch(installed, namespace, replicas=6, autoscaling=None)
        resource = wait_for_condition(installed, namespace, "whisper")
        until(
            lambda: "HorizontalPodAutoscaler/whisper" not in children(installed, namespace), "no autoscaler"
        )
        assert condition(resource, "AutoscalingReady") == {}
        until(lambda: declares_replicas(installed, namespace), "the operator has the number again")
        order = [(each.verb, each.resource) for each in writes(installed, start, namespace)]
        # The other way round, the autoscaler might undo the number at once.
        gone = order.index(("delete", "autoscaling/horizontalpodautoscalers"))
        assert gone < order.index(("patch", "apps/deployments"))
        assert dips(history, scaled, 6) == []


@pytest.mark.timeout(300)
def test_a_label_that_takes_the_deployment_out_of_sight_takes_away_no_replicas(
    installed: Cluster, operator: Operator, namespace: str, metrics: MetricsApi, tmp_path: Path
) -> None:
    """Watches show it as deleted then; what is found in its place is put right as what it is."""
    metrics.in_flight[namespace] = 20
    installed.apply(endpoint("whisper", namespace, autoscaling=SCALED))
    until(lambda: replicas(installed, namespace) == 6, "six replicas")
    until(lambda: not declares_replicas(installed, namespace), "the operator lets go")
    wait_for_condition(installed, namespace, "whisper")
    with History(installed, namespace, tmp_path, "deployments") as history:
        scaled = history.seen_up_to("deployments", "whisper")
        label = "app.kubernetes.io/managed-by=Helm"
        installed.kubectl("label", "deploy", "whisper", "-n", namespace, "--overwrite", label)
        until(lambda: "Deployment/whisper" in children(installed, namespace), "the label as it was")
        wait_until_quiet(installed)
        assert dips(history, scaled, 6) == []


@pytest.mark.timeout(300)
def test_suspended_and_woken_under_an_autoscaler(
    installed: Cluster, operator: Operator, namespace: str, metrics: MetricsApi
) -> None:
    """An autoscaler leaves a Deployment alone that has no replicas: somebody has to give it the first."""
    metrics.in_flight[namespace] = 20
    installed.apply(endpoint("whisper", namespace, autoscaling=SCALED))
    until(lambda: replicas(installed, namespace) == 6, "six replicas")
    patch(installed, namespace, suspend=True)
    wait_for_condition(installed, namespace, "whisper", reason="Suspended")
    until(lambda: replicas(installed, namespace) == 0, "no replicas")
    until(lambda: "HorizontalPodAutoscaler/whisper" not in children(installed, namespace), "no autoscaler")
    assert "PodDisruptionBudget/whisper" not in children(installed, namespace)
    metrics.in_flight[namespace] = 5
    patch(installed, namespace, suspend=None)
    wait_for_condition(installed, namespace, "whisper")
    assert replicas(installed, namespace) == 2
    # Scaled to nothing by hand: so little is not for anybody but `suspend` to say.
    installed.kubectl("scale", "deployment", "whisper", "-n", namespace, "--replicas=0")
    until(lambda: replicas(installed, namespace) == 2, "two replicas again")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"autoscaling": SCALED}, "install an adapter that serves the custom metrics API"),
        ({"autoscaling": {"max": 3}, "device": "cpu"}, "install metrics-server"),
    ],
    ids=["requests", "cpu"],
)
def test_without_a_metrics_api_the_condition_says_what_to_install(
    installed: Cluster, operator: Operator, namespace: str, spec: dict[str, Any], words: str
) -> None:
    installed.apply(endpoint("whisper", namespace, **spec))
    resource = wait_for_condition(
        installed, namespace, "whisper", "AutoscalingReady", "False", "NoMetricsAPI"
    )
    assert words in condition(resource, "AutoscalingReady")["message"]
    # It serves all the same, with the least that was asked for.
    resource = wait_for_condition(installed, namespace, "whisper")
    assert condition(resource, "Stalled") == {}
    assert "does not follow the load: see AutoscalingReady" in condition(resource, "Ready")["message"]
    assert replicas(installed, namespace) == spec["autoscaling"].get("min", 1)
    start = wait_until_quiet(installed)
    wait_until_quiet(installed, seconds=10)
    assert writes(installed, start, namespace) == []


def test_metrics_that_do_not_come_are_another_matter(
    installed: Cluster, operator: Operator, namespace: str, metrics: MetricsApi
) -> None:
    """The API is there, and has no figures of these pods."""
    metrics.silent.add(namespace)
    installed.apply(endpoint("whisper", namespace, autoscaling=SCALED))
    resource = wait_for_condition(installed, namespace, "whisper", "AutoscalingReady", "False", "NoMetrics")
    assert "whether their metrics are collected" in condition(resource, "AutoscalingReady")["message"]
    metrics.silent.remove(namespace)
    wait_for_condition(installed, namespace, "whisper")


@pytest.mark.timeout(300)
def test_replicas_that_find_no_gpu_are_told_of(
    installed: Cluster, operator: Operator, namespace: str, metrics: MetricsApi
) -> None:
    metrics.in_flight[namespace] = 5
    scaled = {"min": 2, "max": 5, "targetInFlight": 5}
    installed.apply(endpoint("whisper", namespace, autoscaling=scaled))
    node_of_its_own(installed, namespace, gpus=3)
    wait_for_condition(installed, namespace, "whisper")
    metrics.in_flight[namespace] = 20
    until(lambda: replicas(installed, namespace) == 5, "five replicas")
    resource = wait_for_condition(installed, namespace, "whisper", "Ready", "False", "Unschedulable")
    until(
        lambda: "asks for 5 replicas, and 3 serve" in condition(live(installed, namespace, "whisper"), "Ready")["message"],
        "what serves is told",
    )  # fmt: skip
    assert condition(resource, "Stalled") == {}
    assert condition(resource, "Available")["status"] == "True"
    patch(installed, namespace, scheduling=None)
    wait_for_condition(installed, namespace, "whisper")
