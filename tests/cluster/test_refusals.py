"""What can't be carried out: nothing that runs is touched, nothing foreign is overwritten, and the status says what to do."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from devcluster import Cluster, DevclusterError
from devcluster.faults import FaultProxy
from devcluster.installation import Operator
from tests.cluster.faults import quota
from tests.cluster.support import (
    CERTIFICATE,
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

HOST = "whisper.example.com"

FOREIGN: dict[str, dict[str, Any]] = {
    "Service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}]}},
    "Ingress": {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 1}}}},
    },
    "BackendConfig": {
        "apiVersion": "cloud.google.com/v1",
        "kind": "BackendConfig",
        "spec": {"timeoutSec": 5},
    },
    "Deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    },
}


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_an_object_of_somebody_else_is_never_touched(
    installed: Cluster, operator: Operator, namespace: str, kind: str
) -> None:
    """Not even one that has our labels, as anybody may copy them: what the operator has made tells more."""
    labels = {"app.kubernetes.io/managed-by": "whisper-operator", "whisper-operator.io/endpoint": "whisper"}
    installed.apply(
        {**FOREIGN[kind], "metadata": {"name": "whisper", "namespace": namespace, "labels": labels}}
    )

    def foreign() -> tuple[Any, Any]:
        found = installed.get(kind, "whisper", "-n", namespace, "--show-managed-fields")
        # Deployments get a status and GKE annotates; neither is the operator's doing.
        managers = [each["manager"] for each in found["metadata"]["managedFields"]]
        return found["spec"], "whisper-operator" in managers

    before = foreign()
    installed.apply(endpoint("whisper", namespace, host=HOST))
    resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "NameConflict")
    assert "was not touched" in condition(resource, "Ready")["message"]
    assert "whisper" in condition(resource, "Ready")["message"]
    wait_until_quiet(installed)
    assert foreign() == before
    assert before[1] is False
    # Nothing was made that names it either, though the rest was.
    made = {name.partition("/")[0] for name in children(installed, namespace)}
    assert "NetworkPolicy" in made
    assert "Ingress" not in made or kind == "Ingress"
    installed.kubectl("delete", kind, "whisper", "-n", namespace)
    wait_for_condition(installed, namespace, "whisper")


def test_a_child_that_is_wrongly_owned_is_not_touched(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(endpoint("other", namespace, device="cpu"))
    other = live(installed, namespace, "other")["metadata"]["uid"]
    owner = {
        "apiVersion": "whisper-operator.io/v1alpha1", "kind": "WhisperEndpoint",
        "name": "other", "uid": other, "controller": True,
    }  # fmt: skip
    metadata = {"name": "whisper", "namespace": namespace, "ownerReferences": [owner]}
    installed.apply({**FOREIGN["Service"], "metadata": metadata})
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "NameConflict")


def test_a_change_that_cannot_be_carried_out_leaves_what_runs(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, host=HOST))
    wait_for_condition(installed, namespace, "whisper")
    before = {name: child["metadata"]["uid"] for name, child in children(installed, namespace).items()}
    start = wait_until_quiet(installed)
    change = {"spec": {"accelerator": {"type": "abacus"}, "host": None}}
    installed.kubectl("patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", json.dumps(change))
    resource = wait_for_condition(installed, namespace, "whisper", "Ready", "False", "UnknownAccelerator")
    assert condition(resource, "Available")["status"] == "True"
    assert condition(resource, "AddressAssigned")["status"] == "True"
    assert resource["status"]["url"] == f"https://{HOST}"
    assert {
        name: child["metadata"]["uid"] for name, child in children(installed, namespace).items()
    } == before
    wait_until_quiet(installed)
    assert {each.resource for each in writes(installed, start, namespace)} <= {
        "whisper-operator.io/whisperendpoints/status",
        "events",
    }


@pytest.mark.usefixtures("alone")
def test_without_a_configured_image_the_condition_says_how_to_get_one(
    cluster: Cluster, installed: Cluster, namespace: str
) -> None:
    with Operator(installed, {"server": {}}) as operator:
        operator.wait_until_working()
        installed.apply(endpoint("whisper", namespace))
        resource = wait_for_condition(installed, namespace, "whisper", "Ready", "False", "ImageNotConfigured")
        assert "make images" in condition(resource, "Ready")["message"]
        assert operator.complaints() == []


def test_what_the_api_server_refuses_is_passed_on(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """A quota that forbids Services; lifting it mends all."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
    }
    installed.apply({**quota, "spec": {"hard": {"services": "0"}}})
    until(
        lambda: installed.get("resourcequota", "none", "-n", namespace).get("status", {}).get("hard"),
        "the quota in force",
    )
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "ApplyRefused")
    message = condition(resource, "Ready")["message"]
    assert "Service whisper" in message
    assert "exceeded quota" in message
    installed.kubectl("delete", "resourcequota", "none", "-n", namespace)
    wait_for_condition(installed, namespace, "whisper")


def test_a_webhook_that_does_not_answer_is_named(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """It stands in the way of every write until somebody mends it, so the status has to say so."""
    webhook = {
        "name": "broken.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [
            {"apiGroups": ["apps"], "apiVersions": ["*"], "operations": ["*"], "resources": ["deployments"]}
        ],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [webhook],
    }
    installed.apply(configuration)
    try:
        installed.apply(endpoint("whisper", namespace, device="cpu"))
        resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "ApplyRefused")
        assert "broken.example.com" in condition(resource, "Ready")["message"]
    finally:
        installed.kubectl("delete", "validatingwebhookconfiguration", namespace)
    wait_for_condition(installed, namespace, "whisper")


@contextmanager
def forbidden(cluster: Cluster, namespace: str, verb: str, resource: tuple[str, str]) -> Iterator[None]:
    """A policy of the cluster's that refuses one verb on one resource (group and plural) of the namespace."""
    policy: dict[str, Any] = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {
                        "apiGroups": [resource[0]],
                        "apiVersions": ["*"],
                        "operations": [verb],
                        "resources": [resource[1]],
                    }
                ],
            },
            "validations": [{"expression": "false", "message": f"{resource[1]} stay"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]},
    }
    cluster.apply(policy, binding)
    names = cluster.kubectl("get", resource[1], "-n", namespace, "-o", "name").split()
    tried = ("delete", names[0]) if verb == "DELETE" else ("label", names[0], "tried=yes")

    def in_force() -> bool:
        try:
            cluster.kubectl(*tried, "-n", namespace, "--dry-run=server")
        except DevclusterError as error:
            return f"{resource[1]} stay" in str(error)
        return False

    try:
        until(in_force, "the policy in force")
        yield
    finally:
        cluster.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", namespace)


def test_a_deletion_that_is_refused_is_passed_on(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, host=HOST))
    wait_for_condition(installed, namespace, "whisper")
    with forbidden(installed, namespace, "DELETE", ("networking.k8s.io", "ingresses")):
        patch(installed, namespace, host=None)
        resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "ApplyRefused")
        message = condition(resource, "Ready")["message"]
        assert "deletion of Ingress whisper" in message
        assert "ingresses stay" in message
        # What it names stays with it, as it serves on.
        assert {"BackendConfig/whisper", CERTIFICATE} <= set(children(installed, namespace))
    wait_for_condition(installed, namespace, "whisper")
    assert not {"BackendConfig/whisper", CERTIFICATE} & set(children(installed, namespace))


def replicas(cluster: Cluster, namespace: str) -> int:
    return int(cluster.get("deployment", "whisper", "-n", namespace)["spec"]["replicas"])


def test_what_one_refusal_leaves_is_carried_out(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """Another server and another host, though the BackendConfig can't be changed; and it is said."""
    installed.apply(endpoint("whisper", namespace, host=HOST))
    wait_for_condition(installed, namespace, "whisper")
    with forbidden(installed, namespace, "UPDATE", ("cloud.google.com", "backendconfigs")):
        patch(installed, namespace, limits={"requestTimeoutSeconds": 700}, host="b.example.com")
        resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "ApplyRefused")
        assert "BackendConfig whisper" in condition(resource, "Ready")["message"]
        found = children(installed, namespace)
        assert [rule["host"] for rule in found["Ingress/whisper"]["spec"]["rules"]] == ["b.example.com"]
        pod = found["Deployment/whisper"]["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == 745
    wait_for_condition(installed, namespace, "whisper")


def test_suspending_is_carried_out_whatever_is_refused(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """A policy that takes no change of the Deployment, as where its image is no longer allowed: a GPU costs money on."""
    installed.apply(endpoint("whisper", namespace, host=HOST))
    wait_for_condition(installed, namespace, "whisper")
    with forbidden(installed, namespace, "UPDATE", ("apps", "deployments")):
        patch(installed, namespace, suspend=True, host="b.example.com")
        until(lambda: replicas(installed, namespace) == 0, "no replicas")
        resource = wait_for_condition(installed, namespace, "whisper", "Ready", "False", "ApplyRefused")
        assert "deployments stay" in condition(resource, "Ready")["message"]
        rules = children(installed, namespace)["Ingress/whisper"]["spec"]["rules"]
        assert [rule["host"] for rule in rules] == ["b.example.com"]
    patch(installed, namespace, suspend=None)
    wait_for_condition(installed, namespace, "whisper")
    assert replicas(installed, namespace) == 1


def test_suspending_is_carried_out_beside_an_object_of_somebody_else(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    wait_for_condition(installed, namespace, "whisper")
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"minAvailable": 1}}
    installed.apply({**budget, "metadata": {"name": "whisper", "namespace": namespace}})
    patch(installed, namespace, replicas=2)
    wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "NameConflict")
    assert replicas(installed, namespace) == 2
    patch(installed, namespace, suspend=True)
    until(lambda: replicas(installed, namespace) == 0, "no replicas")


@pytest.mark.parametrize("wrong", ["UnknownAccelerator", "HostConflict"])
def test_suspending_is_carried_out_while_the_rest_is_frozen(
    installed: Cluster, operator: Operator, namespace: str, wrong: str
) -> None:
    """Only that: everything else stays as it is until the spec can be carried out."""
    installed.apply(endpoint("whisper", namespace, host=HOST))
    wait_for_condition(installed, namespace, "whisper")
    installed.apply(endpoint("other", namespace, host="other.example.com"))
    wait_for_condition(installed, namespace, "other")
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "UnknownAccelerator": ("whisper", {"accelerator": {"type": "abacus"}, "host": "c.example.com"}),
        "HostConflict": ("other", {"host": HOST}),
    }
    name, change = changes[wrong]
    patch(installed, namespace, name=name, **change)
    wait_for_condition(installed, namespace, name, "Ready", "False", wrong)
    before = {kind: child["spec"] for kind, child in children(installed, namespace).items()}
    patch(installed, namespace, name=name, suspend=True)

    def scaled() -> bool:
        return bool(children(installed, namespace)[f"Deployment/{name}"]["spec"]["replicas"] == 0)

    until(scaled, "no replicas")
    wait_until_quiet(installed)
    after = {kind: child["spec"] for kind, child in children(installed, namespace).items()}
    before[f"Deployment/{name}"] |= {"replicas": 0}
    assert after == before
    patch(installed, namespace, name=name, suspend=None, accelerator=None, host="c.example.com")
    wait_for_condition(installed, namespace, name)
    assert children(installed, namespace)[f"Deployment/{name}"]["spec"]["replicas"] == 1


@pytest.mark.usefixtures("alone")
def test_a_suspension_that_is_refused_while_the_rest_is_frozen_is_told(
    installed: Cluster, namespace: str
) -> None:
    """As where the operator's role is older than it is."""
    with FaultProxy(installed) as proxy, Operator(installed, server=proxy.url) as operator:
        operator.wait_until_working()
        installed.apply(endpoint("whisper", namespace, device="cpu"))
        wait_for_condition(installed, namespace, "whisper")
        proxy.keep_failing(f"/namespaces/{namespace}/deployments/whisper/scale", "nonsense")
        patch(installed, namespace, device=None, accelerator={"type": "abacus"}, suspend=True)
        resource = wait_for_condition(
            installed, namespace, "whisper", "Stalled", "True", "UnknownAccelerator"
        )
        assert (
            "And suspension of Deployment whisper failed, and is tried again: "
            in (condition(resource, "Ready")["message"])
        )
        assert replicas(installed, namespace) == 1
        proxy.behave()
        until(lambda: replicas(installed, namespace) == 0, "no replicas")


def test_one_broken_endpoint_does_not_hold_up_another(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    start = now()
    installed.apply(
        endpoint("broken", namespace, accelerator={"type": "abacus"}), endpoint("fine", namespace)
    )
    wait_for_condition(installed, namespace, "fine")
    wait_for_condition(installed, namespace, "broken", "Stalled")
    assert operator.complaints() == []
    assert len([each for each in writes(installed, start, namespace) if each.name == "broken"]) <= 2


def test_what_names_a_refused_object_waits_for_it(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    quota(services="0")(installed, namespace)
    installed.apply(endpoint("whisper", namespace, device="cpu", host="whisper.example.com"))
    wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "ApplyRefused")
    made = {name.partition("/")[0] for name in children(installed, namespace)}
    assert "BackendConfig" in made
    assert not made & {"Service", "Ingress"}
    installed.kubectl("delete", "quota", "q", "-n", namespace)
    wait_for_condition(installed, namespace, "whisper")


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("fault", ["conflict", "503"])
def test_what_can_not_be_written_for_long_is_told_and_holds_up_nothing_else(
    installed: Cluster, namespace: str, fault: str
) -> None:
    """One child only, as where somebody writes to it all the time, or what serves its kind is down."""
    with FaultProxy(installed) as proxy, Operator(installed, server=proxy.url) as operator:
        operator.wait_until_working()
        with proxy.always(fault, f"/namespaces/{namespace}/services/whisper"):
            installed.apply(endpoint("whisper", namespace, host=HOST))
            until(lambda: "Deployment/whisper" in children(installed, namespace), "a Deployment")
            resource = wait_for_condition(installed, namespace, "whisper", "Ready", "False", "ApplyDelayed")
            assert "Service whisper" in condition(resource, "Ready")["message"]
            assert "Ingress/whisper" not in children(installed, namespace)
            patch(installed, namespace, suspend=True)
            until(lambda: replicas(installed, namespace) == 0, "no replicas")
        patch(installed, namespace, suspend=None)
        wait_for_condition(installed, namespace, "whisper")
