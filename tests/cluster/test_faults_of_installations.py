"""What is wrong with an installation, or with the cluster under it: each endpoint that it concerns says so."""

import re
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.faults import FaultProxy
from devcluster.installation import Operator, install
from tests.cluster import troubleshooting
from tests.cluster.health import Recorder
from tests.cluster.support import condition, endpoint, patch, until, wait_for_condition, without_right
from tests.cluster.troubleshooting import Entry

GKE = (
    "managedcertificates.networking.gke.io",
    "frontendconfigs.networking.gke.io",
    "backendconfigs.cloud.google.com",
)


@pytest.mark.timeout(600)
def test_an_image_that_nobody_configured_and_kinds_that_the_cluster_lacks(
    written: list[Entry] | None, recorder: Recorder
) -> None:
    with Cluster.start() as cluster:
        cluster.kubectl("delete", "crd", *GKE)
        install(cluster)
        with Operator(cluster, {"server": {}}) as operator:
            operator.wait_until_working()
            cluster.apply(
                endpoint("unconfigured", "default"),
                endpoint("public", "default", image="registry.example.com/x:1", host="whisper.example.com"),
            )
            cases = (
                ("unconfigured", "ImageNotConfigured", "make images", "configure the images, or set spec.image"),
                ("public", "KindNotInstalled", "GKE has what a public endpoint needs", "install what it names, or do without"),
            )  # fmt: skip
            for (name, reason, words, cure), symptom in zip(
                cases, troubleshooting.INSTALLATION[:2], strict=True
            ):
                resource = wait_for_condition(cluster, "default", name, "Stalled", "True", reason)
                assert words in condition(resource, "Ready")["message"]
                note(written, recorder, symptom, cure, resource)


def note(
    written: list[Entry] | None, recorder: Recorder, symptom: str, cure: str, resource: dict[str, Any]
) -> None:
    """Have the page written with it, or see that it is there; and the same of the test data of deploy/argocd's health check."""
    reason = str(condition(resource, "Ready")["reason"])
    health = "Degraded" if condition(resource, "Stalled") else "Progressing"
    recorder.note("installation-" + re.sub(r"(?<!^)(?=[A-Z])", "-", reason).lower(), resource, health)
    entry = troubleshooting.entry(symptom, cure, resource, "Ready")
    if written is not None:
        written.append(entry)
    else:
        assert troubleshooting.has(entry), "docs/troubleshooting.md is out of date: see troubleshooting.py"


def autoscaler(namespace: str) -> dict[str, Any]:
    """One of somebody's own, which keeps at least four replicas."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "whisper"}
    spec = {"scaleTargetRef": target, "minReplicas": 4, "maxReplicas": 5}
    metadata = {"name": "own", "namespace": namespace}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": spec,
    }


@pytest.mark.timeout(600)
def test_what_is_done_to_an_endpoint_from_outside(written: list[Entry] | None, recorder: Recorder) -> None:
    fought, failing, forbidden = troubleshooting.INSTALLATION[2:5]
    with Cluster.start() as cluster, FaultProxy(cluster) as proxy:
        install(cluster)
        with Operator(cluster, {"listAgainSeconds": 5}, server=proxy.url) as operator:
            operator.wait_until_working()
            for namespace in ("fought", "failing", "unread"):
                cluster.kubectl("create", "namespace", namespace)
                cluster.apply(endpoint("whisper", namespace, device="cpu", replicas=2))
                wait_for_condition(cluster, namespace, "whisper")

            cluster.apply(autoscaler("fought"))
            resource = wait_for_condition(cluster, "fought", "whisper", "Stalled", "True", "FieldContested")
            assert "spec.replicas of Deployment whisper" in condition(resource, "Ready")["message"]
            cure = "delete the autoscaler, or set spec.autoscaling instead"
            note(written, recorder, fought, cure, resource)
            cluster.kubectl("delete", "hpa", "own", "-n", "fought")
            patch(cluster, "fought", replicas=3)  # which waits for no fight to end
            until(lambda: replicas(cluster, "fought") == 3, "three replicas")

            proxy.keep_failing("/namespaces/failing/services", "503")
            cluster.kubectl("delete", "service", "whisper", "-n", "failing")
            resource = wait_for_condition(cluster, "failing", "whisper", "Ready", "False", "ApplyDelayed")
            assert condition(resource, "Stalled") == {}
            assert "Service whisper: " in condition(resource, "Ready")["message"]
            assert "apiserver is shutting down" in condition(resource, "Ready")["message"]
            note(written, recorder, failing, "see what answers so; the operator goes on by itself", resource)
            proxy.behave()
            patch(cluster, "failing", replicas=3)
            wait_for_condition(cluster, "failing", "whisper")

            with without_right(cluster, "networkpolicies"):
                resource = wait_for_condition(cluster, "unread", "whisper", "Stalled", "True", "AccessDenied")
                assert "networkpolicies.networking.k8s.io" in condition(resource, "Ready")["message"]
                note(written, recorder, forbidden, "give it back", resource)
            wait_for_condition(cluster, "unread", "whisper")


@pytest.mark.timeout(300)
def test_what_an_installation_does_not_offer(
    installed: Cluster, namespace: str, written: list[Entry] | None, recorder: Recorder
) -> None:
    settings = {"accelerators": {"rtx-4090": {"nodeSelector": {"gpu": "rtx-4090"}}}}
    policy = {"everywhere": {"withoutNetworkPolicy": False, "ceilings": {"namespace": {"gpus": 2}}}}
    cases: tuple[tuple[str, str, dict[str, Any], str], ...] = (
        (
            *("spot", "SpotNotOffered", {"accelerator": {"type": "rtx-4090", "spot": True}}),
            "leave spot out, or add them to the installation's table",
        ),
        (
            *("refused", "PolicyViolation", {"networkPolicy": {"enabled": False}}),
            "change the spec, or the policy",
        ),
        (
            *("room", "CeilingReached", {"replicas": 3}),
            "ask for less, or raise the ceiling in the policy",
        ),
    )
    with Operator(installed, settings, policy=policy) as operator:
        operator.wait_until_working()
        installed.apply(*(endpoint(name, namespace, **spec) for name, _, spec, _ in cases))
        for (name, reason, _, cure), symptom in zip(cases, troubleshooting.INSTALLATION[5:], strict=True):
            kind, status = ("Ready", "False") if name == "room" else ("Stalled", "True")
            resource = wait_for_condition(installed, namespace, name, kind, status, reason)
            assert "ask the platform team" in condition(resource, "Ready")["message"]
            note(written, recorder, symptom, cure, resource)


def replicas(cluster: Cluster, namespace: str) -> int:
    return int(cluster.get("deployment", "whisper", "-n", namespace)["spec"]["replicas"])
