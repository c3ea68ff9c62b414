"""A namespace or a kind that can't be read is told, stops nothing else, and comes back by itself."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster
from devcluster.faults import FaultProxy
from devcluster.installation import Operator, install, wait_for_kinds
from tests.cluster.support import (
    children,
    condition,
    endpoint,
    live,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = ROOT / "deploy" / "overlays" / "namespaced"
CRD = ROOT / "crds" / "whisperendpoints.yaml"
ADDRESSES = "computeaddresses.compute.cnrm.cloud.google.com"


def give_rights(cluster: Cluster, namespace: str) -> None:
    text = (OVERLAY / "rights.yaml").read_text().replace("namespace: asr", f"namespace: {namespace}")
    cluster.kubectl("apply", "-f", "-", input=text)


def said(operator: Operator, *words: str) -> list[str]:
    """Lines of its log with all these words."""
    lines = [str(line["message"]) for line in operator.log()]
    return [line for line in lines if all(word in line for word in words)]


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """A cluster with an installation for the namespaces asr and nlp."""
    with Cluster.start() as cluster:
        cluster.kubectl("create", "namespace", "asr")
        install(cluster, "overlays/namespaced")
        cluster.kubectl("create", "namespace", "nlp")
        give_rights(cluster, "nlp")
        yield cluster


@pytest.mark.timeout(600)
def test_a_namespace_that_turns_forbidden_and_goes_stops_no_other(two: Cluster) -> None:
    with Operator(two, {"namespaces": ["asr", "nlp"]}) as operator:
        operator.wait_until_working()
        two.apply(*(endpoint("whisper", each, host=f"{each}.example.com") for each in ("asr", "nlp")))
        for each in ("asr", "nlp"):
            wait_for_condition(two, each, "whisper")

        two.kubectl("delete", "rolebinding", "whisper-operator", "-n", "nlp")
        two.kubectl("delete", "namespace", "nlp")
        operator.stop()
        operator.start().wait_until_working()
        patch(two, "asr", replicas=2)
        wait_for_condition(two, "asr", "whisper")
        two.kubectl("delete", "service", "whisper", "-n", "asr")
        until(lambda: "Service/whisper" in children(two, "asr"), "the Service back")
        assert operator.ask("/healthz")[0] == operator.ask("/readyz")[0] == 200
        lines = said(operator, "whisperendpoints", "can't be read in namespace nlp (forbidden")
        assert len(lines) == 1
        unreadable = {
            "kind": "whisperendpoints.whisper-operator.io",
            "namespace": "nlp",
            "reason": "forbidden",
        }
        assert operator.metric("whisper_operator_unreadable", **unreadable) == 1

        two.kubectl("create", "namespace", "nlp")
        give_rights(two, "nlp")
        two.apply(endpoint("again", "nlp", host="nlp.example.com"))
        wait_for_condition(two, "nlp", "again")
        until(
            lambda: operator.metric("whisper_operator_unreadable", **unreadable) == 0, "nothing is unreadable"
        )
        # Watched again, too, and not only listed.
        forbidden = 'namespace="nlp",reason="forbidden"'
        until(lambda: forbidden not in operator.ask("/metrics")[1], "all of it is watched")
        two.kubectl("delete", "service", "again", "-n", "nlp")
        until(lambda: "Service/again" in children(two, "nlp"), "the Service back")
        assert [line for line in operator.log() if line["level"] in ("ERROR", "CRITICAL", "RAW")] == []


@pytest.mark.timeout(600)
def test_a_namespace_that_turns_forbidden_while_it_is_watched_stops_no_other(two: Cluster) -> None:
    """And what is deleted in it meanwhile is gone when it comes back."""
    with Operator(two, {"namespaces": ["asr", "nlp"], "listAgainSeconds": 5}) as operator:
        operator.wait_until_working()
        two.apply(*(endpoint(name, "nlp", host=f"{name}.example.com") for name in ("stays", "goes")))
        for name in ("stays", "goes"):
            wait_for_condition(two, "nlp", name)
        two.kubectl("delete", "rolebinding", "whisper-operator", "-n", "nlp")
        until(lambda: said(operator, "can't be read in namespace nlp (forbidden"), "it is noticed")
        two.kubectl("delete", "wep", "goes", "-n", "nlp")
        two.apply(endpoint("heir", "asr", host="goes.example.com"))
        wait_for_condition(two, "asr", "heir")
        give_rights(two, "nlp")
        two.kubectl("delete", "service", "stays", "-n", "nlp")
        until(lambda: "Service/stays" in children(two, "nlp"), "the Service back")
        assert "Service/goes" not in children(two, "nlp")
        assert [line for line in operator.log() if line["level"] in ("ERROR", "CRITICAL", "RAW")] == []


@pytest.fixture
def own() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        cluster.kubectl("apply", "-f", str(ROOT / "tests" / "cluster" / "crds"))
        wait_for_kinds(cluster)
        install(cluster)
        yield cluster


@pytest.mark.timeout(300)
def test_an_optional_kind_that_cannot_be_read_for_a_moment_loses_nothing(own: Cluster) -> None:
    with FaultProxy(own) as proxy, Operator(own, server=proxy.url) as operator:
        operator.wait_until_working()
        own.apply(endpoint("whisper", "default", device="cpu"))
        wait_for_condition(own, "default", "whisper")
        before = children(own, "default")["PodMonitoring/whisper"]["metadata"]["uid"]
        start = wait_until_quiet(own)
        failing = {
            "kind": "podmonitorings.monitoring.googleapis.com",
            "namespace": "",
            "reason": "failing",
        }
        with proxy.always("500", "/podmonitorings"):
            proxy.drop_watches()
            until(lambda: operator.metric("whisper_operator_unreadable", **failing) == 1, "it is noticed")
            wait_until_quiet(own)
        until(lambda: operator.metric("whisper_operator_unreadable", **failing) == 0, "it is over")
        wait_until_quiet(own)
        assert [each for each in writes(own, start, "default") if each.verb == "delete"] == []
        assert children(own, "default")["PodMonitoring/whisper"]["metadata"]["uid"] == before


@contextmanager
def hanging_webhook(
    cluster: Cluster, namespace: str, seconds: int = 30, policy: str = "Fail"
) -> Iterator[None]:
    """Inside, every write to this namespace waits for an admission webhook, by default as long as the API server lets it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are taken, and nothing is said
        rule = {
            "apiGroups": ["*"],
            "apiVersions": ["*"],
            "operations": ["*"],
            "resources": ["*"],
            "scope": "Namespaced",
        }
        webhook = {
            "name": "silent.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{silent.getsockname()[1]}/"},
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "timeoutSeconds": seconds,
            "failurePolicy": policy,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        cluster.apply(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "silent"},
                "webhooks": [webhook],
            }
        )
        try:
            yield
        finally:
            cluster.kubectl("delete", "validatingwebhookconfiguration", "silent")


@pytest.mark.timeout(300)
def test_a_namespace_whose_webhook_hangs_keeps_no_other_waiting(own: Cluster) -> None:
    """Its endpoints are more than there are workers, and their writes more than there are slots for requests."""
    own.kubectl("create", "namespace", "bad")
    own.apply(*(endpoint(f"bad-{each}", "bad", device="cpu") for each in range(20)))
    with hanging_webhook(own, "bad"), Operator(own) as operator:
        operator.wait_until_working()
        until(lambda: operator.metric("whisper_operator_workqueue_active") >= 8, "half of the workers hang")
        own.apply(endpoint("good", "default", device="cpu"))
        wait_for_condition(own, "default", "good")
        patch(own, "default", name="good", replicas=2)
        wait_for_condition(own, "default", "good")
        assert children(own, "bad") == {}


@pytest.mark.timeout(300)
def test_a_webhook_that_is_waited_for_longer_than_a_lease_lasts_keeps_nothing_from_being_written(
    own: Cluster,
) -> None:
    """As one behind a firewall: each write takes the webhook's 10 s, and is carried out then."""
    with Operator(own) as operator:
        operator.wait_until_working()
        own.apply(endpoint("whisper", "default", device="cpu"))
        wait_for_condition(own, "default", "whisper")
        with hanging_webhook(own, "default", seconds=10, policy="Ignore"):
            patch(own, "default", name="whisper", replicas=2)
            until(
                lambda: children(own, "default")["Deployment/whisper"]["spec"]["replicas"] == 2,
                "the change carried out",
            )


def role(cluster: Cluster, *, without: str) -> None:
    """The installed ClusterRole without a right."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "base" / "rbac.yaml").read_text())
    found: dict[str, Any] = next(each for each in documents if each["kind"] == "ClusterRole")
    found["rules"] = [rule for rule in found["rules"] if without not in rule["resources"]]
    cluster.kubectl("replace", "-f", "-", input=json.dumps(found))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("late", [False, True], ids=["from the start", "while it runs"])
def test_a_kind_without_a_right_concerns_only_those_who_ask_for_it(own: Cluster, late: bool) -> None:
    if not late:
        role(own, without="computeaddresses")
    with Operator(own, {"listAgainSeconds": 5}) as operator:
        operator.wait_until_working()
        if late:
            role(own, without="computeaddresses")
            until(lambda: said(operator, ADDRESSES, "can't be read"), "it is noticed")
        own.apply(endpoint("plain", "default", host="a.example.com"))
        wait_for_condition(own, "default", "plain")
        asking = {"host": "b.example.com", "staticIPName": "ip", "ingress": {"reserveStaticIP": True}}
        own.apply(endpoint("asking", "default", **asking))
        resource = wait_for_condition(own, "default", "asking", "Ready", "False", "ApplyRefused")
        assert "computeaddresses" in condition(resource, "Ready")["message"]
        assert len(said(operator, ADDRESSES, "can't be read (forbidden")) == 1
        assert operator.ask("/healthz")[0] == operator.ask("/readyz")[0] == 200

        role(own, without="nothing")
        wait_for_condition(own, "default", "asking")
        assert [line for line in operator.log() if line["level"] in ("ERROR", "CRITICAL", "RAW")] == []


@pytest.mark.timeout(900)
def test_the_endpoints_kind_may_be_deleted_and_made_anew(own: Cluster) -> None:
    with Operator(own) as operator:
        operator.wait_until_working()
        for turn in range(6):
            own.apply(endpoint("whisper", "default", device="cpu"))
            wait_for_condition(own, "default", "whisper")
            own.kubectl("delete", "-f", str(CRD))
            if turn % 2:
                time.sleep(turn)
            own.kubectl("create", "-f", str(CRD))
            wait_for_kinds(own)
            until(lambda: applied(own, endpoint("whisper", "default", device="cpu")), "it is taken")
            until(lambda: live(own, "default", "whisper").get("status"), "a status")
            wait_for_condition(own, "default", "whisper")
            wait_until_quiet(own)
        assert operator.exit_status() is None
        assert [line for line in operator.log() if line["level"] in ("ERROR", "CRITICAL", "RAW")] == []


def applied(cluster: Cluster, resource: dict[str, Any]) -> bool:
    """A kind takes a moment to be served after its definition was made."""
    try:
        cluster.apply(resource)
    except Exception:
        return False
    return True


@pytest.mark.timeout(600)
def test_without_the_endpoints_kind_it_is_not_ready_and_says_why(own: Cluster) -> None:
    own.kubectl("delete", "-f", str(CRD))
    with Operator(own) as operator:
        operator.wait_until_working()
        status, text = operator.ask("/readyz")
        assert status == 503
        assert "apply crds/whisperendpoints.yaml" in text
        own.kubectl("create", "-f", str(CRD))
        until(lambda: applied(own, endpoint("whisper", "default", device="cpu")), "it is taken")
        wait_for_condition(own, "default", "whisper")
        assert operator.ask("/readyz")[0] == 200
