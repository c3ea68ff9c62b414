"""The scale subresource, by which kubectl and autoscalers of the user's own set the number of replicas."""

import json

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.support import children, endpoint, patch, until, wait_for_condition


def test_a_users_own_autoscaler_scales_an_endpoint_that_names_no_number(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """Without a number in the spec, the API server has no scale to show: FailedGetScale."""
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    wait_for_condition(installed, namespace, "whisper")
    scale = json.loads(
        installed.kubectl("get", "wep", "whisper", "-n", namespace, "--subresource=scale", "-o", "json")
    )
    assert scale["spec"] == {"replicas": 1}
    assert "whisper-operator.io/endpoint=whisper" in scale["status"]["selector"]

    target = {"apiVersion": "whisper-operator.io/v1alpha1", "kind": "WhisperEndpoint", "name": "whisper"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    installed.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "own", "namespace": namespace},
            "spec": {
                "scaleTargetRef": target,
                "minReplicas": 2,
                "maxReplicas": 3,
                "metrics": [{"type": "Resource", "resource": cpu}],
            },
        }
    )
    # Its lower bound needs no metrics, which nothing serves here.
    until(
        lambda: children(installed, namespace)["Deployment/whisper"]["spec"]["replicas"] == 2,
        "two replicas",
        120,
    )
    wait_for_condition(installed, namespace, "whisper")
    conditions = installed.get("hpa", "own", "-n", namespace)["status"]["conditions"]
    assert ("AbleToScale", "True") in [(each["type"], each["status"]) for each in conditions]

    # The spec is applied again without a number: the autoscaler's stays.
    installed.apply(endpoint("whisper", namespace, device="cpu", limits={"maxQueue": 9}))
    wait_for_condition(installed, namespace, "whisper")
    assert children(installed, namespace)["Deployment/whisper"]["spec"]["replicas"] == 2


def test_its_number_counts_for_nothing_beside_autoscaling(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    wait_for_condition(installed, namespace, "whisper")
    patch(installed, namespace, autoscaling={"min": 2, "max": 3})
    until(lambda: "HorizontalPodAutoscaler/whisper" in children(installed, namespace), "the autoscaler")
    until(
        lambda: children(installed, namespace)["Deployment/whisper"]["spec"]["replicas"] == 2,
        "its number",
        120,
    )
    patch(installed, namespace, autoscaling=None)
    wait_for_condition(installed, namespace, "whisper")
    assert children(installed, namespace)["Deployment/whisper"]["spec"]["replicas"] == 1
