"""Simulated pods live as on GKE: on nodes with GPUs, and with every fault that a test may ask for."""

from typing import Any

from devcluster import Cluster
from devcluster.stage_parts import FAULT
from devcluster.waiting import eventually

START = "devcluster.whisper-operator.io/start-duration"


def pod(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    return cluster.get("pod", name, "-n", namespace)


def container(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """The status of the pod's only container."""
    found: dict[str, Any] = pod(cluster, namespace, name)["status"]["containerStatuses"][0]
    return found


def ready(cluster: Cluster, namespace: str, name: str) -> bool:
    conditions = pod(cluster, namespace, name)["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def events(cluster: Cluster, namespace: str, name: str) -> set[tuple[str, str, str]]:
    """Type, reason and message of what the kubelet says about a pod."""
    items = cluster.get("events", "-n", namespace, f"--field-selector=involvedObject.name={name}")["items"]
    return {
        (item["type"], item["reason"], item["message"])
        for item in items
        if item["reportingComponent"] == "kubelet"
    }


def start(cluster: Cluster, namespace: str, name: str, fault: str, *more: str) -> None:
    cluster.kubectl("run", name, "--image=img:1", f"--labels={FAULT}={fault}", "-n", namespace, *more)


def deployment(namespace: str, name: str, selector: dict[str, str]) -> dict[str, Any]:
    """Two pods with a GPU each."""
    labels = {"app": name}
    spec = {
        "nodeSelector": selector,
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [{"name": "c", "image": "img:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def test_a_deployment_gets_ready_on_gpu_nodes(cluster: Cluster, namespace: str) -> None:
    spot = {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true"}
    cluster.apply(deployment(namespace, "gpu", spot))
    eventually(lambda: cluster.get("deploy", "gpu", "-n", namespace)["status"].get("readyReplicas") == 2)
    items = cluster.get("pods", "-n", namespace)["items"]
    assert {item["spec"]["nodeName"] for item in items} == {"gke-devcluster-l4-spot-0"}
    assert len({item["status"]["podIP"] for item in items}) == 2
    node = cluster.get("node", "gke-devcluster-l4-spot-0")
    assert node["spec"]["providerID"] == "gce://devcluster/europe-west4-a/gke-devcluster-l4-spot-0"
    assert {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"} in node["spec"]["taints"]


def test_without_such_a_node_the_scheduler_says_so(cluster: Cluster, namespace: str) -> None:
    cluster.apply(deployment(namespace, "a100", {"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}))

    def unschedulable() -> bool:
        items = cluster.get("pods", "-n", namespace)["items"]
        reasons = {each.get("reason") for item in items for each in item["status"]["conditions"]}
        return len(items) == 2 and reasons == {"Unschedulable"}

    eventually(unschedulable)
    assert "FailedScheduling" in cluster.kubectl("get", "events", "-n", namespace)


def test_an_image_that_can_not_be_pulled(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, "p", "image-pull")
    missing = 'rpc error: code = NotFound desc = failed to pull and unpack image "img:1": not found'

    def backed_off() -> bool:
        waiting = container(cluster, namespace, "p")["state"]["waiting"]
        return bool(waiting == {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "img:1"'})

    eventually(backed_off)
    assert pod(cluster, namespace, "p")["status"]["phase"] == "Pending"
    assert events(cluster, namespace, "p") == {
        ("Warning", "Failed", f'Failed to pull image "img:1": {missing}'),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
        ("Normal", "BackOff", 'Back-off pulling image "img:1"'),
    }
    cluster.kubectl("label", "pod", "p", f"{FAULT}-", "-n", namespace)
    eventually(lambda: ready(cluster, namespace, "p"))


def test_containers_that_crash_or_run_out_of_memory(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, "crash", "crash-loop")
    start(cluster, namespace, "oom", "oom")
    for name, reason, code in (("crash", "Error", 1), ("oom", "OOMKilled", 137)):
        eventually(
            lambda name=name: (
                container(cluster, namespace, name)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            )  # type: ignore[misc]
        )
        status = container(cluster, namespace, name)
        ended = status["lastState"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == (reason, code)
        assert status["restartCount"] == 1
        assert not status["ready"]
        uid = pod(cluster, namespace, name)["metadata"]["uid"]
        message = f"Back-off restarting failed container {name} in pod {name}_{namespace}({uid})"
        assert events(cluster, namespace, name) == {("Warning", "BackOff", message)}
    eventually(lambda: container(cluster, namespace, "oom")["restartCount"] == 2)


def test_a_running_pod_may_run_out_of_memory(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("run", "p", "--image=img:1", "-n", namespace)
    eventually(lambda: ready(cluster, namespace, "p"))
    cluster.kubectl("label", "pod", "p", f"{FAULT}=oom", "-n", namespace)
    eventually(lambda: not ready(cluster, namespace, "p"))
    terminated = eventually(lambda: container(cluster, namespace, "p")["lastState"].get("terminated"))
    assert terminated["reason"] == "OOMKilled"


def test_a_slow_start_and_one_that_is_never_ready(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, "slow", "slow-start", f"--annotations={START}=4s")
    start(cluster, namespace, "never", "never-ready")
    for name in ("slow", "never"):
        eventually(lambda name=name: "running" in container(cluster, namespace, name)["state"])  # type: ignore[misc]
    assert not container(cluster, namespace, "slow")["started"]
    assert not ready(cluster, namespace, "slow")
    eventually(lambda: ready(cluster, namespace, "slow"))
    assert container(cluster, namespace, "slow")["started"]
    assert not ready(cluster, namespace, "never")
    assert events(cluster, namespace, "never") == {
        ("Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    }


def test_quota_is_the_real_one(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "quota", "q", "--hard=requests.nvidia.com/gpu=1", "-n", namespace)
    cluster.apply(deployment(namespace, "gpu", {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}))

    def refused() -> bool:
        conditions = cluster.get("deploy", "gpu", "-n", namespace)["status"]["conditions"]
        return any(
            each["type"] == "ReplicaFailure" and "exceeded quota" in each["message"] for each in conditions
        )

    eventually(refused)
