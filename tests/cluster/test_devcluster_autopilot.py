"""Autopilot's admission: workloads are rewritten, GPU pods must name their accelerator, others must not tolerate GPUs."""

from collections.abc import Iterator
from typing import Any

import pytest

from devcluster import Cluster, DevclusterError

GPU = {"key": "nvidia.com/gpu", "operator": "Exists"}
T4 = {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}


@pytest.fixture(scope="module")
def autopilot() -> Iterator[Cluster]:
    """A cluster of its own: the policies hold for all of one."""
    with Cluster.start(autopilot=True) as running:
        yield running


def pod_spec(resources: dict[str, dict[str, str]], **spec: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "c", "resources": resources}]} | spec


def create(cluster: Cluster, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The pod spec as admitted."""
    labels = {"app": "w"}
    metadata = {"name": f"w-{kind.lower()}", "namespace": "default"}
    if kind == "Pod":
        cluster.apply(
            {"apiVersion": "v1", "kind": kind, "metadata": metadata | {"labels": labels}, "spec": spec}
        )
    else:
        template = {"metadata": {"labels": labels}, "spec": spec}
        whole = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        cluster.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": whole})
    found = cluster.get(kind, metadata["name"])
    cluster.kubectl("delete", kind, metadata["name"])
    admitted: dict[str, Any] = found["spec"] if kind == "Pod" else found["spec"]["template"]["spec"]
    return admitted


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_rewrites_resources_and_tolerations(autopilot: Cluster, kind: str) -> None:
    asked = {
        "requests": {"cpu": "3900m", "memory": "24Gi", "ephemeral-storage": "40Gi"},
        "limits": {"nvidia.com/gpu": "1", "memory": "30Gi"},
    }
    admitted = create(autopilot, kind, pod_spec(asked, nodeSelector=T4, tolerations=[GPU]))
    resources = admitted["containers"][0]["resources"]
    rewritten = {"cpu": "4", "memory": "24Gi", "ephemeral-storage": "10Gi"}
    assert resources["limits"] == rewritten | {"nvidia.com/gpu": "1"}
    assert {
        key: value for key, value in resources["requests"].items() if key != "nvidia.com/gpu"
    } == rewritten
    keys = [each["key"] for each in admitted["tolerations"]]
    ours = [key for key in keys if not key.startswith("node.kubernetes.io/")]
    assert ours == ["nvidia.com/gpu", "kubernetes.io/arch", "cloud.google.com/gke-accelerator"]
    assert admitted["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_fills_in_what_is_missing(autopilot: Cluster) -> None:
    admitted = create(autopilot, "Deployment", pod_spec({}))
    defaults = {"cpu": "500m", "memory": "2Gi", "ephemeral-storage": "1Gi"}
    assert admitted["containers"][0]["resources"] == {"limits": defaults, "requests": defaults}
    assert [each["key"] for each in admitted["tolerations"]] == ["kubernetes.io/arch"]


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_refuses_a_gpu_without_accelerator_and_a_toleration_without_gpu(
    autopilot: Cluster, kind: str
) -> None:
    wants = {"limits": {"nvidia.com/gpu": "1"}}
    with pytest.raises(
        DevclusterError, match=r"you must specify either node selector 'cloud\.google\.com/gke-accelerator'"
    ):
        create(autopilot, kind, pod_spec(wants, tolerations=[GPU]))
    with pytest.raises(DevclusterError, match="cannot be specified if the pod does not request to use GPU"):
        create(autopilot, kind, pod_spec({}, tolerations=[GPU]))


def test_refuses_gpu_requests_that_differ_from_limits(autopilot: Cluster) -> None:
    uneven = {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "2"}}
    with pytest.raises(DevclusterError, match=r"must be equal to nvidia\.com/gpu limit"):
        create(autopilot, "Deployment", pod_spec(uneven, nodeSelector=T4))


def test_can_be_switched_off_and_on(autopilot: Cluster) -> None:
    autopilot.autopilot(False)
    admitted = create(autopilot, "Deployment", pod_spec({}, tolerations=[GPU]))
    assert admitted["containers"][0]["resources"] == {}
    assert admitted["tolerations"] == [GPU]
    autopilot.autopilot(True)
    with pytest.raises(DevclusterError, match="GKE Warden rejected"):
        create(autopilot, "Deployment", pod_spec({}, tolerations=[GPU]))
