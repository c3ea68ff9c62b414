"""An endpoint's life: applied, settled, changed, deleted."""

import json
import signal

import pytest
import yaml

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.support import (
    ALL,
    CERTIFICATE,
    EXAMPLES,
    HOST,
    children,
    condition,
    endpoint,
    exists,
    live,
    now,
    until,
    wait_for_condition,
    writes,
)

INTERNAL = ALL - {"BackendConfig/whisper", CERTIFICATE, "Ingress/whisper"}

pytestmark = pytest.mark.usefixtures("nothing_to_complain_about")


def test_the_minimal_example_becomes_its_children_and_ready(settled: Cluster, namespace: str) -> None:
    assert set(children(settled, namespace)) == ALL
    resource = live(settled, namespace, "whisper")
    status = resource["status"]
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Available": "True",
        "AddressAssigned": "True",
        "CertificateReady": "True",
        "Ready": "True",
    }
    ingress = settled.get("ingress", "whisper", "-n", namespace)
    address = ingress["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert status["address"] == address
    assert status["dns"] == [{"name": HOST, "type": "A", "value": address}]
    assert status["url"] == f"https://{HOST}"
    assert status["readyReplicas"] == 1
    assert "finalizers" not in resource["metadata"]
    assert set(resource["metadata"].get("annotations", {})) <= {
        "kubectl.kubernetes.io/last-applied-configuration"
    }


def test_what_people_see_with_kubectl(settled: Cluster, namespace: str) -> None:
    head, row = settled.kubectl("get", "wep", "-n", namespace, "-o", "wide").splitlines()
    assert head.split() == [
        "NAME",
        "MODEL",
        "READY",
        "URL",
        "REPLICAS",
        "AGE",
        "ADDRESS",
        "CERTIFICATE",
        "REASON",
    ]
    cells = row.split()
    assert cells[:5] == ["whisper", "large-v3", "True", f"https://{HOST}", "1"]
    assert cells[-2:] == ["Active", "Ready"]
    events = settled.kubectl("events", "--for", "whisperendpoint/whisper", "-n", namespace)
    assert "The current spec is served, with all it asks for." in events
    assert "Every host has a certificate." in events
    assert "metadata" not in settled.kubectl("get", "all", "-n", namespace)
    assert "whisperendpoint.whisper-operator.io/whisper" in settled.kubectl("get", "all", "-n", namespace)
    explained = settled.kubectl("explain", "whisperendpoint.spec.limits.requestTimeoutSeconds")
    assert "Longest time for one request" in explained


def test_the_complete_example_settles(installed: Cluster, operator: Operator, namespace: str) -> None:
    """With the objects it refers to."""
    installed.kubectl("create", "serviceaccount", "whisper", "-n", namespace)
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "high"},
        "value": 5,
    }
    installed.apply(priority)
    example = yaml.safe_load((EXAMPLES / "complete.yaml").read_text())
    del example["spec"]["scheduling"]["nodeSelector"]  # the simulated nodes lie elsewhere
    example["metadata"]["namespace"] = namespace
    installed.apply(example)
    wait_for_condition(installed, namespace, "whisper-complete")
    found = children(installed, namespace)
    more = {"PodDisruptionBudget/whisper-complete", "FrontendConfig/whisper-complete"}
    assert more <= set(found)
    assert len(found) == len(ALL) + len(more) + 1  # and a second certificate
    pod = found["Deployment/whisper-complete"]["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "high"
    assert pod["imagePullSecrets"] == [{"name": "registry-credentials"}]
    assert pod["containers"][0]["resources"]["limits"]["cpu"] == "8"
    assert live(installed, namespace, "whisper-complete")["status"]["readyReplicas"] == 2


def test_a_further_host_leaves_the_first_ones_certificate_alone(settled: Cluster, namespace: str) -> None:
    before = children(settled, namespace)[CERTIFICATE]
    change = {"spec": {"additionalHosts": ["speech.example.com"]}}
    settled.kubectl("patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", json.dumps(change))
    resource = wait_for_condition(settled, namespace, "whisper")
    assert [each["host"] for each in resource["status"]["certificates"]] == ["speech.example.com", HOST]
    after = children(settled, namespace)[CERTIFICATE]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["certificateName"] == before["status"]["certificateName"]
    change = {"spec": {"additionalHosts": []}}
    settled.kubectl("patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", json.dumps(change))
    until(lambda: set(children(settled, namespace)) == ALL, "the second certificate gone")
    assert children(settled, namespace)[CERTIFICATE]["metadata"]["uid"] == before["metadata"]["uid"]


def test_becoming_internal_removes_the_public_side_and_back(settled: Cluster, namespace: str) -> None:
    start = now()
    change = '{"spec":{"host":null,"staticIPName":null}}'
    settled.kubectl("patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", change)
    until(lambda: set(children(settled, namespace)) == INTERNAL, "no public children")
    order = [(each.verb, each.resource) for each in writes(settled, start, namespace)]
    deleted = [resource for verb, resource in order if verb == "delete"]
    assert deleted == [
        "networking.k8s.io/ingresses",
        "networking.gke.io/managedcertificates",
        "cloud.google.com/backendconfigs",
    ]
    # The load balancer is never left with a reference to what is gone.
    assert order.index(("patch", "services")) < order.index(("delete", "cloud.google.com/backendconfigs"))
    status = wait_for_condition(settled, namespace, "whisper")["status"]
    assert not {"url", "address", "dns", "certificates"} & set(status)
    annotations = children(settled, namespace)["Service/whisper"]["metadata"]["annotations"]
    assert "cloud.google.com/backend-config" not in annotations
    change = json.dumps({"spec": {"host": HOST}})
    settled.kubectl("patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", change)
    wait_for_condition(settled, namespace, "whisper")
    assert set(children(settled, namespace)) == ALL


def test_scale_suspend_and_resume(settled: Cluster, namespace: str) -> None:
    settled.kubectl("scale", "wep", "whisper", "-n", namespace, "--replicas=3")
    assert wait_for_condition(settled, namespace, "whisper")["status"]["readyReplicas"] == 3
    settled.kubectl(
        "patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}'
    )
    wait_for_condition(settled, namespace, "whisper", reason="Suspended")
    until(lambda: live(settled, namespace, "whisper")["status"]["replicas"] == 0, "no replicas")
    assert set(children(settled, namespace)) == ALL
    settled.kubectl(
        "patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":null}}'
    )
    assert wait_for_condition(settled, namespace, "whisper")["status"]["readyReplicas"] == 3


def test_rollout_switches_both_ways(settled: Cluster, namespace: str) -> None:
    for rollout in ("Recreate", "RollingUpdate"):
        change = json.dumps({"spec": {"rollout": rollout}})
        settled.kubectl("patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", change)

        def strategy() -> str:
            return str(children(settled, namespace)["Deployment/whisper"]["spec"]["strategy"]["type"])

        until(lambda wanted=rollout: strategy() == wanted, rollout)  # type: ignore[misc]
        wait_for_condition(settled, namespace, "whisper")


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_deleting_leaves_nothing(settled: Cluster, namespace: str, cascade: str) -> None:
    settled.kubectl("delete", "wep", "whisper", "-n", namespace, f"--cascade={cascade}")
    until(lambda: not children(settled, namespace), "no children")
    until(lambda: not settled.get("pods,replicasets", "-n", namespace)["items"], "no pods")


def test_deleting_while_the_operator_is_down_leaves_nothing(
    settled: Cluster, namespace: str, operator: Operator
) -> None:
    operator.stop(signal.SIGKILL)
    try:
        settled.kubectl("delete", "wep", "whisper", "-n", namespace)
        until(lambda: not children(settled, namespace), "no children")
        until(lambda: not settled.get("pods,replicasets", "-n", namespace)["items"], "no pods")
    finally:
        operator.start().wait_until_working()


def test_deleted_and_applied_again_at_once(settled: Cluster, namespace: str) -> None:
    """The new endpoint waits for the old one's children to go; it neither takes them over nor gives up."""
    settled.kubectl("delete", "wep", "whisper", "-n", namespace, "--wait=false")
    settled.apply(endpoint("whisper", namespace, host=HOST, staticIPName="whisper"))
    uid = live(settled, namespace, "whisper")["metadata"]["uid"]
    wait_for_condition(settled, namespace, "whisper")

    def all_new() -> bool:
        found = children(settled, namespace)
        owners = {each["metadata"]["ownerReferences"][0]["uid"] for each in found.values()}
        return set(found) == ALL and owners == {uid}

    until(all_new, "all children of the new endpoint")


def test_edits_while_the_operator_is_down_are_caught_up_with(
    settled: Cluster, namespace: str, operator: Operator
) -> None:
    assert operator.stop() == 0
    try:
        settled.kubectl("delete", "service", "whisper", "-n", namespace)
        settled.kubectl(
            "patch",
            "backendconfig",
            "whisper",
            "-n",
            namespace,
            "--type=merge",
            "-p",
            '{"spec":{"timeoutSec":1}}',
        )
        settled.kubectl(
            "patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", '{"spec":{"replicas":2}}'
        )
    finally:
        operator.start().wait_until_working()
    # Ready may wait for minutes: the load balancer's controller may have missed the Service, and never says that it found it.
    until(lambda: live(settled, namespace, "whisper")["status"].get("readyReplicas") == 2, "two replicas")
    until(lambda: exists(settled, namespace, "service", "whisper"), "the Service")
    until(
        lambda: children(settled, namespace)["BackendConfig/whisper"]["spec"]["timeoutSec"] == 660,
        "the timeout",
    )


def test_a_certificate_that_fails_says_what_to_do_and_recovers(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.kubectl(
        "create", "configmap", "gke-stand-in", "-n", namespace, "--from-literal=certificates=FailedNotVisible"
    )
    installed.apply(endpoint("whisper", namespace, host=HOST))
    resource = wait_for_condition(
        installed, namespace, "whisper", "CertificateReady", "False", "FailedNotVisible"
    )
    assert "create the DNS record in status.dns" in condition(resource, "CertificateReady")["message"]
    assert condition(resource, "Ready")["status"] == "False"
    installed.kubectl(
        "patch",
        "configmap",
        "gke-stand-in",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        '{"data":{"certificates":"Active"}}',
    )
    wait_for_condition(installed, namespace, "whisper")
