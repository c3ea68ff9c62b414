"""What is done to an endpoint's children by hand: it is put right, and what others add stays."""

import json
import time
from typing import Any

import pytest
from whisper_operator.informer.liveness import PAUSE_SECONDS

from devcluster import Cluster
from devcluster.faults import FaultProxy
from devcluster.installation import Operator
from tests.cluster.support import (
    ALL,
    CERTIFICATE,
    HOST,
    children,
    endpoint,
    until,
    wait_for_condition,
    wait_until_quiet,
)

pytestmark = pytest.mark.usefixtures("nothing_to_complain_about")


@pytest.mark.parametrize("child", sorted(ALL))
def test_a_deleted_child_comes_back(settled: Cluster, namespace: str, child: str) -> None:
    before = children(settled, namespace)[child]["metadata"]["uid"]
    settled.kubectl("delete", child, "-n", namespace, "--wait=false")

    def back() -> bool:
        found = children(settled, namespace).get(child)
        return found is not None and found["metadata"]["uid"] != before

    until(back, f"{child} made anew")
    wait_for_condition(settled, namespace, "whisper")


@pytest.mark.usefixtures("alone")
def test_a_child_that_is_deleted_while_no_watch_sees_it_comes_back(
    installed: Cluster, namespace: str
) -> None:
    """After a 410 a watch lists anew, and what was deleted meanwhile is reported by none: nothing but another list tells."""
    with (
        FaultProxy(installed) as proxy,
        Operator(installed, {"listAgainSeconds": 600}, server=proxy.url) as operator,
    ):
        operator.wait_until_working()
        installed.apply(endpoint("whisper", namespace, device="cpu"))
        wait_for_condition(installed, namespace, "whisper")
        wait_until_quiet(installed)
        time.sleep(PAUSE_SECONDS + 1)  # or what the watches begin with would be taken for one listing
        before = children(installed, namespace)["NetworkPolicy/whisper"]["metadata"]["uid"]
        with proxy.blind():
            time.sleep(0.5)  # until the proxy has shut its eyes
            installed.kubectl("delete", "networkpolicy", "whisper", "-n", namespace)

        def back() -> bool:
            found = children(installed, namespace).get("NetworkPolicy/whisper")
            return found is not None and found["metadata"]["uid"] != before

        until(back, "the NetworkPolicy made anew")


EDITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "BackendConfig/whisper": ({"spec": {"timeoutSec": 30}}, ["spec", "timeoutSec"]),
    "NetworkPolicy/whisper": ({"spec": {"egress": [{}]}}, ["spec", "egress"]),
    "PodMonitoring/whisper": ({"spec": {"endpoints": []}}, ["spec", "endpoints"]),
    "Service/whisper": ({"spec": {"selector": {"whisper-operator.io/endpoint": "x"}}}, ["spec", "selector"]),
    "Deployment/whisper": (
        {"spec": {"template": {"spec": {"enableServiceLinks": True}}}},
        ["spec", "template", "spec"],
    ),
    CERTIFICATE: ({"spec": {"domains": ["other.example.com"]}}, ["spec", "domains"]),
    "Ingress/whisper": ({"spec": {"rules": [{"host": "other.example.com"}]}}, ["spec", "rules"]),
}


@pytest.mark.parametrize("child", sorted(ALL))
def test_an_edited_child_is_put_right(settled: Cluster, namespace: str, child: str) -> None:
    patch, path = EDITS[child]

    def value() -> Any:
        at: Any = children(settled, namespace)[child]
        for name in path:
            at = at[name]
        return at

    before = value()
    settled.kubectl("patch", child, "-n", namespace, "--type=merge", "-p", json.dumps(patch))
    until(lambda: value() == before, f"{child} as before")


MORE: dict[str, dict[str, Any]] = {
    "HorizontalPodAutoscaler/whisper": {"maxReplicas": 9},
    "PodDisruptionBudget/whisper": {"maxUnavailable": "50%"},
    "FrontendConfig/whisper": {"redirectToHttps": {"enabled": False}},
}


def test_children_of_single_fields_are_put_right_and_made_anew(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    asked: dict[str, Any] = {"autoscaling": {"min": 2, "max": 3}, "ingress": {"httpsRedirect": True}}
    installed.apply(endpoint("whisper", namespace, host=HOST, **asked))
    wait_for_condition(installed, namespace, "whisper", "AutoscalingReady", "False", "NoMetricsAPI")
    until(lambda: set(MORE) <= set(children(installed, namespace)), "the children of these fields")

    def redirected() -> bool:
        front = children(installed, namespace)["FrontendConfig/whisper"]["spec"]
        return bool(front["redirectToHttps"]["enabled"])

    until(redirected, "the redirect")
    for child, edit in MORE.items():
        before = children(installed, namespace)[child]
        change = json.dumps({"spec": edit})
        installed.kubectl("patch", child, "-n", namespace, "--type=merge", "-p", change)
        wanted = before["spec"]
        until(
            lambda child=child, wanted=wanted: children(installed, namespace)[child]["spec"] == wanted,  # type: ignore[misc]
            f"{child} as before",
        )
        installed.kubectl("delete", child, "-n", namespace, "--wait=false")

        def anew(child: str = child, uid: str = before["metadata"]["uid"]) -> bool:
            found = children(installed, namespace).get(child)
            return found is not None and found["metadata"]["uid"] != uid

        until(anew, f"{child} made anew")


RESHAPED: dict[str, tuple[str, Any, list[str]]] = {
    "a Service's port": (
        "Service/whisper",
        {"ports": [{"name": "http", "port": 8001, "targetPort": "http"}]},
        ["ports"],
    ),
    "a container's name": (
        "Deployment/whisper",
        {"template": {"spec": {"containers": [{"name": "renamed", "image": "other"}]}}},
        ["template", "spec", "containers"],
    ),
}


@pytest.mark.parametrize("what", RESHAPED)
def test_a_renamed_entry_of_a_list_is_put_right_and_stays_the_operators(
    settled: Cluster, namespace: str, what: str
) -> None:
    """Server-side apply alone would add its own entry beside the renamed one."""
    child, edit, path = RESHAPED[what]

    def value() -> Any:
        at: Any = children(settled, namespace)[child]["spec"]
        for name in path:
            at = at[name]
        return [{key: entry[key] for key in ("name", "port", "image") if key in entry} for entry in at]

    before = value()
    settled.kubectl("patch", child, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": edit}))
    until(lambda: value() == before, f"{what} as before")
    managers = settled.get(child, "-n", namespace, "--show-managed-fields")["metadata"]["managedFields"]
    assert "kubectl-patch" not in [each["manager"] for each in managers]
    wait_for_condition(settled, namespace, "whisper")


def test_a_changed_endpoint_label_is_put_right(settled: Cluster, namespace: str) -> None:
    label = "whisper-operator.io/endpoint"
    for edit in (f"{label}=other", f"{label}-"):
        settled.kubectl("label", "service", "whisper", "-n", namespace, "--overwrite", edit)

        def mended() -> bool:
            labels = settled.get("service", "whisper", "-n", namespace)["metadata"]["labels"]
            return bool(labels.get(label) == "whisper")

        until(mended, f"the label after {edit}")


def test_a_child_stripped_of_its_label_or_annotation_is_put_right(settled: Cluster, namespace: str) -> None:
    """Without the label no watch shows it any more; without the hash nothing says what was applied."""
    label = "app.kubernetes.io/managed-by"
    settled.kubectl("label", "service", "whisper", "-n", namespace, f"{label}-")
    until(lambda: "Service/whisper" in children(settled, namespace), "the label back")
    annotation = "whisper-operator.io/applied-hash"
    settled.kubectl("annotate", "service", "whisper", "-n", namespace, f"{annotation}-")

    def annotated() -> bool:
        return annotation in children(settled, namespace)["Service/whisper"]["metadata"]["annotations"]

    until(annotated, "the annotation back")


def test_what_others_add_stays(settled: Cluster, namespace: str) -> None:
    settled.kubectl("annotate", "service", "whisper", "-n", namespace, "example.com/note=mine")
    settled.kubectl(
        "patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", '{"spec":{"replicas":2}}'
    )
    wait_for_condition(settled, namespace, "whisper")
    settled.kubectl(
        "patch", "wep", "whisper", "-n", namespace, "--type=merge", "-p", '{"spec":{"host":"b.example.com"}}'
    )
    wait_for_condition(settled, namespace, "whisper")
    found = children(settled, namespace)
    assert found["Service/whisper"]["metadata"]["annotations"]["example.com/note"] == "mine"
    ingress = found["Ingress/whisper"]["metadata"]
    assert "ingress.kubernetes.io/url-map" in ingress["annotations"]
    assert ingress["finalizers"]
