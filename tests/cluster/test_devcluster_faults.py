"""The development cluster's faults that speak through events: a missing Secret, a GPU that can't be used, no more nodes."""

from typing import Any

from devcluster import Cluster
from devcluster.stage_parts import FAULT
from devcluster.waiting import eventually


def pod(namespace: str, name: str, fault: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {FAULT: fault}},
        "spec": {"containers": [{"name": "c", "image": "img:1"}], **spec},
    }


def warnings(cluster: Cluster, namespace: str, name: str) -> list[tuple[str, str]]:
    selector = f"--field-selector=type=Warning,involvedObject.name={name}"
    items = cluster.get("events", "-n", namespace, selector)["items"]
    return [(item["reason"], item["message"]) for item in items]


def test_a_missing_secret_keeps_the_containers_from_being_made(cluster: Cluster, namespace: str) -> None:
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "keys", "secret": {"secretName": "nope"}}]
    cluster.apply(pod(namespace, "p", "missing-secret", volumes=volumes))
    said = ("FailedMount", 'MountVolume.SetUp failed for volume "keys" : secret "nope" not found')
    eventually(lambda: said in warnings(cluster, namespace, "p"))
    status = cluster.get("pod", "p", "-n", namespace)["status"]["containerStatuses"][0]
    assert status["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_a_gpu_that_can_not_be_used_is_in_the_last_words(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod(namespace, "p", "no-device"))

    def ended() -> Any:
        status = cluster.get("pod", "p", "-n", namespace)["status"]["containerStatuses"][0]
        return status["lastState"].get("terminated")

    terminated = eventually(ended)
    assert terminated["exitCode"] == 3
    assert "CUDA can't be used" in terminated["message"]


def test_the_autoscaler_says_why_there_is_no_more_node(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl(
        "create", "configmap", "gke-stand-in", "-n", namespace, "--from-literal=scaleUp=GCE quota exceeded"
    )
    cluster.apply(pod(namespace, "p", "", nodeSelector={"no": "such"}))
    found = eventually(
        lambda: [each for each in warnings(cluster, namespace, "p") if each[0] == "FailedScaleUp"]
    )
    assert found[0][1].endswith(
        "associated with this pod failed: GCE quota exceeded. Pod is at risk of not being scheduled."
    )
