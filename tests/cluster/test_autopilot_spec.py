"""What a spec asks for survives GKE Autopilot, which rewrites what it is given, as well as it does a Standard cluster."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.support import (
    children,
    condition,
    endpoint,
    now,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)

TEAM = {"key": "team", "operator": "Equal", "value": "speech", "effect": "NoSchedule"}
SPEC: dict[str, Any] = {
    "host": "a.example.com",
    "accelerator": {"type": "nvidia-l4", "spot": True},
    "replicas": 2,
    "model": "turbo",
    "modelVolume": {"emptyDir": {"sizeLimit": "2Gi"}},
    "resources": {"requests": {"cpu": 3, "memory": "20Gi"}},
    "scheduling": {"tolerations": [TEAM], "podLabels": {"team": "speech"}},
    "ingress": {"httpsRedirect": True},
}


@pytest.fixture(scope="module", params=[False, True], ids=["standard", "autopilot"])
def configured(installed: Cluster, request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the cluster is an Autopilot one; the operator is told so."""
    installed.autopilot(request.param)
    with Operator(installed, {"autopilot": request.param}) as operator:
        operator.wait_until_working()
        yield request.param
        assert operator.complaints() == []
    installed.autopilot(False)


def pod(cluster: Cluster, namespace: str, name: str = "whisper") -> dict[str, Any]:
    return dict(children(cluster, namespace)[f"Deployment/{name}"]["spec"]["template"]["spec"])


def resources(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return dict(pod(cluster, namespace)["containers"][0]["resources"])


@pytest.mark.timeout(300)
def test_what_the_spec_asks_for_is_there_and_stays(
    installed: Cluster, configured: bool, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, **SPEC))
    resource = wait_for_condition(installed, namespace, "whisper")
    assert "a Spot node is taken back with 25 s notice" in condition(resource, "Ready")["message"]
    found = pod(installed, namespace)
    assert found["nodeSelector"]["cloud.google.com/gke-accelerator"] == "nvidia-l4"
    assert found["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert ("cloud.google.com/gke-accelerator-count" in found["nodeSelector"]) is configured
    keys = [each["key"] for each in found["tolerations"]]
    assert {"team", "nvidia.com/gpu", "cloud.google.com/gke-spot"} <= set(keys)
    asked = resources(installed, namespace)
    assert asked["requests"]["nvidia.com/gpu"] == asked["limits"]["nvidia.com/gpu"] == "1"
    assert (asked["requests"]["cpu"], asked["requests"]["memory"]) == ("3", "20Gi")
    assert asked["requests"]["ephemeral-storage"] == asked["limits"]["ephemeral-storage"] == "4Gi"
    assert (
        "cpu" in asked["limits"]
    ) is configured  # or Autopilot rewrote nothing, and this test proves nothing

    # A change of the spec gets through, and a change by hand does not stay.
    patch(installed, namespace, resources={"requests": {"memory": "22Gi"}})
    wait_for_condition(installed, namespace, "whisper")
    assert resources(installed, namespace)["requests"]["memory"] == "22Gi"
    meddling = {"spec": {"containers": [{"name": "server", "resources": {"requests": {"memory": "1Gi"}}}]}}
    installed.kubectl(
        "patch", "deployment", "whisper", "-n", namespace, "--type=strategic", "-p", json.dumps({"spec": {"template": meddling}})
    )  # fmt: skip
    until(lambda: resources(installed, namespace)["requests"]["memory"] == "22Gi", "the memory back")

    # What is no longer asked for goes.
    patch(installed, namespace, scheduling=None, modelVolume=None, accelerator=None)
    resource = wait_for_condition(installed, namespace, "whisper")
    assert "Spot" not in condition(resource, "Ready")["message"]
    found = pod(installed, namespace)
    assert "initContainers" not in found
    assert found["nodeSelector"]["cloud.google.com/gke-accelerator"] == "nvidia-tesla-t4"
    assert not {"team", "cloud.google.com/gke-spot"} & {each["key"] for each in found["tolerations"]}

    start = wait_until_quiet(installed)
    wait_until_quiet(installed, seconds=5)
    assert writes(installed, start, namespace) == []


def test_a_gpu_endpoint_may_become_one_on_cpus_and_back(
    installed: Cluster, configured: bool, namespace: str
) -> None:
    """Autopilot refuses pods that tolerate a GPU's taint and ask for none."""
    installed.apply(endpoint("whisper", namespace))
    wait_for_condition(installed, namespace, "whisper")
    before = pod(installed, namespace)
    patch(installed, namespace, device="cpu")
    wait_for_condition(installed, namespace, "whisper")
    assert "nvidia" not in json.dumps(pod(installed, namespace))
    start = now()
    patch(installed, namespace, device=None)
    wait_for_condition(installed, namespace, "whisper")
    assert pod(installed, namespace) == before
    assert [each.code for each in writes(installed, start, namespace) if each.code >= 400] == []
