"""Silence: nothing is written when nothing changed, not while idle, not after a restart, whatever others write."""

import json
import time
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator, install
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

IDLE_SECONDS = 60
SETTLED = 100
CROWD = 300


def all_ready(cluster: Cluster, namespace: str, number: int) -> bool:
    items = cluster.get("whisperendpoints", "-n", namespace)["items"]
    ready = [item for item in items if condition(item, "Ready").get("status") == "True"]
    return len(ready) == number


@pytest.mark.parametrize("autopilot", [False, True], ids=["standard", "autopilot"])
def test_idle_means_no_writes(
    installed: Cluster, operator: Operator, namespace: str, autopilot: bool
) -> None:
    """While GKE's stand-in annotates, and Autopilot rewrites what was applied."""
    installed.autopilot(autopilot)
    try:
        installed.apply(
            endpoint("whisper", namespace, host="whisper.example.com", additionalHosts=["b.example.com"]),
            endpoint("inside", namespace, accelerator={"type": "nvidia-l4"}),
            endpoint("cpu", namespace, device="cpu", replicas=2, resources={"requests": {"cpu": "1500m"}}),
            endpoint("broken", namespace, accelerator={"type": "abacus"}),
        )
        for name in ("whisper", "inside", "cpu"):
            wait_for_condition(installed, namespace, name)
        if autopilot:
            requests = children(installed, namespace)["Deployment/cpu"]["spec"]["template"]["spec"][
                "containers"
            ][0]["resources"]
            assert requests["limits"].get("cpu"), "Autopilot rewrote nothing: this test would prove nothing"
        start = wait_until_quiet(installed)
        time.sleep(IDLE_SECONDS)
        # What others write is no reason to write either.
        installed.kubectl(
            "annotate",
            "ingress",
            "whisper",
            "-n",
            namespace,
            "ingress.kubernetes.io/backends={}",
            "--overwrite",
        )
        installed.kubectl("label", "deployment", "cpu", "-n", namespace, "example.com/seen=yes")
        installed.kubectl("annotate", "wep", "whisper", "-n", namespace, "example.com/note=x")
        time.sleep(3)
        assert writes(installed, start, namespace) == []
    finally:
        installed.autopilot(False)


@pytest.mark.timeout(600)
def test_a_restart_over_settled_endpoints_writes_nothing(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(
        *(endpoint(f"e{index}", namespace, host=f"e{index}.example.com") for index in range(SETTLED))
    )
    until(lambda: all_ready(installed, namespace, SETTLED), f"{SETTLED} endpoints Ready", ceiling=240)
    wait_until_quiet(installed)
    operator.stop()
    start = now()
    operator.start().wait_until_working()
    wait_until_quiet(installed, seconds=10)
    assert writes(installed, start, namespace) == []
    assert operator.complaints() == []


@pytest.mark.timeout(900)
def test_three_hundred_endpoints_at_once_all_settle_without_an_error() -> None:
    """On a cluster of their own, so that nothing else is in the log."""
    with Cluster.start() as cluster:
        install(cluster)
        with Operator(cluster) as operator:
            operator.wait_until_working()
            cluster.apply(
                *(endpoint(f"e{index}", "default", host=f"e{index}.example.com") for index in range(CROWD))
            )
            until(lambda: all_ready(cluster, "default", CROWD), f"{CROWD} endpoints Ready", ceiling=280)
            assert len(children(cluster, "default")) == 7 * CROWD
            wait_until_quiet(cluster)
            assert operator.complaints() == []
            cluster.kubectl("delete", "wep", "--all", "--wait=false")
            until(lambda: not children(cluster, "default"), "no children", ceiling=280)
            assert operator.complaints() == []


STRIP: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingAdmissionPolicy",
    "spec": {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConditions": [
            {
                "name": "marked",
                "expression": "'whisper-operator.io/applied-hash' in object.metadata.?annotations.orValue({})",
            }
        ],
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {
                    "expression": "[JSONPatch{op: 'remove', path: '/metadata/annotations/whisper-operator.io~1applied-hash'}]"
                },
            }
        ],
    },
}


def test_admission_that_takes_the_hash_away_is_answered_once(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """What is declared next is applied all the same."""
    match = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "resourceRules": [
            {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*"]}
        ],
    }
    policy = {**STRIP, "metadata": {"name": namespace}}
    policy["spec"] = {**STRIP["spec"], "matchConstraints": match}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace},
    }
    installed.apply(policy, binding)
    try:
        marked = {
            "name": "marked",
            "namespace": namespace,
            "annotations": {"whisper-operator.io/applied-hash": "0"},
        }

        def in_force() -> bool:
            body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": marked})
            answer = installed.kubectl("create", "-f", "-", "--dry-run=server", "-o", "json", input=body)
            return "annotations" not in json.loads(answer)["metadata"]

        until(in_force, "the policy in force")
        installed.apply(endpoint("whisper", namespace, host="whisper.example.com"))
        wait_for_condition(installed, namespace, "whisper")
        found = children(installed, namespace)["Service/whisper"]["metadata"]["annotations"]
        assert "whisper-operator.io/applied-hash" not in found, (
            "admission took nothing: this test would prove nothing"
        )
        start = wait_until_quiet(installed)
        installed.kubectl(
            "label", "service,deployment,ingress", "whisper", "-n", namespace, "example.com/a=b"
        )
        time.sleep(5)
        assert writes(installed, start, namespace) == []
        patch(installed, namespace, limits={"requestTimeoutSeconds": 700})
        until(
            lambda: children(installed, namespace)["BackendConfig/whisper"]["spec"]["timeoutSec"] == 760,
            "the change carried out",
        )
    finally:
        installed.kubectl("delete", "mutatingadmissionpolicy,mutatingadmissionpolicybinding", namespace)
