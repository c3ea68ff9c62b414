"""Two installations that overlap: one of them writes nothing where the other does, and says why."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from devcluster import AuditEvent, Cluster
from devcluster.installation import IMAGES, USER, WRITES, Operator, install
from tests.cluster.second_installation import SECOND, SECOND_USER, install_second
from tests.cluster.support import (
    children,
    endpoint,
    exists,
    is_change,
    now,
    until,
    wait_for_condition,
    wait_until_quiet,
)

MINE, OTHER = "asr", "elsewhere"
NEWER = {"server": {**IMAGES, "version": "0.2.0"}}
"""Which, written to an endpoint of the other's, would restart its pods."""


@pytest.fixture
def own() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        install(cluster)
        for name in (SECOND, MINE, OTHER):
            cluster.kubectl("create", "namespace", name)
        yield cluster


def writes(cluster: Cluster, user: str, since: datetime | None = None) -> list[AuditEvent]:
    found = cluster.audit(user=user, verbs=WRITES, since=since)
    return [event for event in found if is_change(event)]


def image(cluster: Cluster, namespace: str) -> str:
    deployment = children(cluster, namespace)["Deployment/whisper"]
    containers: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return str(containers[0]["image"])


def says(operator: Operator, words: str) -> bool:
    return words in operator.ask("/readyz")[1]


@pytest.mark.timeout(600)
def test_of_two_for_the_whole_cluster_the_younger_writes_nothing(own: Cluster) -> None:
    install_second(own)
    with Operator(own, name="first") as first:
        first.wait_until_working()
        own.apply(endpoint("whisper", MINE, device="cpu"))
        wait_for_condition(own, MINE, "whisper")
        with Operator(own, NEWER, name="second", namespace=SECOND) as second:
            reason = "Another installation, in namespace whisper-operator, looks after the whole cluster too"
            until(lambda: says(second, reason), "it says why")
            assert second.ask("/readyz")[0] == 503
            assert second.ask("/healthz")[0] == 200, "a restart would not help"
            labels = {"namespace": "", "installation": "whisper-operator"}
            assert second.metric("whisper_operator_left_to_others", **labels) == 1
            assert second.metric("whisper_operator_leader") == 0
            assert any(reason in line["message"] for line in second.complaints())
            own.apply(endpoint("late", OTHER, device="cpu"))
            wait_for_condition(own, OTHER, "late")
            wait_until_quiet(own)
            assert [(each.verb, each.resource) for each in writes(own, SECOND_USER)] == []
            assert image(own, MINE).startswith("registry.example.com/whisper-server:0.1.0")
            assert first.complaints() == []
            assert first.ask("/readyz") == (200, "ok\n")

            # A restart of the first, which takes a while, is no reason for the second to write all anew.
            first.stop()
            start = now()
            first.start().wait_until_working()
            wait_until_quiet(own)
            assert [(each.verb, each.resource) for each in writes(own, SECOND_USER)] == []
            assert writes(own, USER, start) == []

            first.stop()
            own.kubectl("delete", "lease", "-n", "whisper-operator", "whisper-operator-leader")
            until(lambda: ":0.2.0" in image(own, MINE), "the second has taken over")
            assert second.ask("/readyz") == (200, "ok\n")
            assert second.metric("whisper_operator_left_to_others", **labels) == 0
            # Now it is the first's turn to wait.
            start = now()
            first.start()
            until(lambda: says(first, f"Another installation, in namespace {SECOND}"), "it says why")
            assert writes(own, USER, start) == []


@pytest.mark.timeout(300)
def test_a_lease_that_somebody_made_up_stops_nobody(own: Cluster) -> None:
    """Though it is older: who may write in one namespace can't stop what is done in others."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "whisper-operator-leader",
            "namespace": MINE,
            "labels": {"app.kubernetes.io/name": "whisper-operator"},
            "annotations": {"whisper-operator.io/looks-after": "*"},
        },
        "spec": {"holderIdentity": "somebody"},
    }
    own.apply(lease)
    with Operator(own, name="first") as first:
        first.wait_until_working()
        own.apply(endpoint("whisper", OTHER, device="cpu"))
        wait_for_condition(own, OTHER, "whisper")
        assert first.ask("/readyz") == (200, "ok\n")
        assert first.complaints() == []


@pytest.mark.timeout(600)
def test_an_installation_for_a_namespace_has_it_to_itself(own: Cluster) -> None:
    install_second(own, MINE)
    with Operator(own, name="first") as first:
        first.wait_until_working()
        for namespace in (MINE, OTHER):
            own.apply(endpoint("whisper", namespace, device="cpu"))
            wait_for_condition(own, namespace, "whisper")
        wait_until_quiet(own)
        settings = {**NEWER, "namespaces": [MINE]}
        with Operator(own, settings, name="second", namespace=SECOND) as second:
            until(lambda: ":0.2.0" in image(own, MINE), "it has taken the namespace over")
            began = min(event.time for event in writes(own, SECOND_USER))
            wait_for_condition(own, MINE, "whisper")
            own.kubectl("delete", "service", "whisper", "-n", MINE)
            own.kubectl("delete", "service", "whisper", "-n", OTHER)
            for namespace in (MINE, OTHER):
                until(lambda it=namespace: exists(own, it, "service", "whisper"), "the Service back")  # type: ignore[misc]
            own.apply(endpoint("late", OTHER, device="cpu"))
            wait_for_condition(own, OTHER, "late")
            assert {event.namespace for event in writes(own, SECOND_USER)} == {MINE}
            assert {event.namespace for event in writes(own, USER, began)} == {OTHER}
            assert image(own, OTHER).endswith(":0.1.0-openai-whisper-large-v3")
            reason = f"Another installation, in namespace {SECOND}, looks after namespace {MINE}"
            assert says(first, f"ok. {reason}")
            labels = {"namespace": MINE, "installation": SECOND}
            assert first.metric("whisper_operator_left_to_others", **labels) == 1
            assert [reason in line["message"] for line in first.complaints()] == [True]
            assert second.ask("/readyz") == (200, "ok\n")
            assert second.complaints() == []
        start = now()
        own.kubectl("delete", "lease", "-n", MINE, "whisper-operator-endpoints")
        until(lambda: ":0.1.0" in image(own, MINE), "the first looks after it again")
        assert {event.namespace for event in writes(own, USER, start)} == {MINE}
        refused = [event for event in own.audit(user=SECOND_USER) if event.code == 403]
        assert refused == []
