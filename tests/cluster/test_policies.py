"""A policy and its changes: who is refused says so, what runs stays, and nobody takes what is another's."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.support import (
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

PRESET = {"preset": "multi-tenant", "everywhere": {"hosts": ["*.{namespace}.example.com"]}}
TELLING = {"whisper-operator.io/whisperendpoints/status", "events"}
"""What is written where nothing is changed."""


@pytest.fixture
def under(installed: Cluster) -> Iterator[Operator]:
    """An operator that anything is allowed by, at first."""
    with Operator(installed) as operator:
        yield operator.wait_until_working()


@pytest.fixture
def tenants(installed: Cluster, namespace: str) -> Iterator[tuple[str, str]]:
    """Two namespaces."""
    other = f"{namespace}-2"
    installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    yield namespace, other
    installed.kubectl("delete", "namespace", other, "--wait=false")


def violation(cluster: Cluster, namespace: str, name: str = "whisper") -> str:
    """What it says, once it does."""
    resource = wait_for_condition(cluster, namespace, name, "Stalled", "True", "PolicyViolation")
    return str(condition(resource, "Ready")["message"])


def without_room(cluster: Cluster, namespace: str, name: str) -> str:
    resource = wait_for_condition(cluster, namespace, name, "Ready", "False", "CeilingReached")
    assert not condition(resource, "Stalled"), "it goes on by itself"
    return str(condition(resource, "Ready")["message"])


def versions(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return {
        name: (child["metadata"]["uid"], child["metadata"].get("generation"), child["spec"])
        for name, child in children(cluster, namespace).items()
    }


@pytest.mark.timeout(300)
def test_a_policy_is_taken_up_at_once_and_takes_nothing_away(
    installed: Cluster, under: Operator, namespace: str
) -> None:
    """Neither from one that complies nor from one that does not any more, and a bad one changes nothing at all."""
    env = [{"name": "A", "value": "b"}]
    installed.apply(
        endpoint("whisper", namespace, host=f"w.{namespace}.example.com", scheduling={"env": env}),
        endpoint("modest", namespace, device="cpu"),
    )
    for name in ("whisper", "modest"):
        wait_for_condition(installed, namespace, name)
    start, before = wait_until_quiet(installed), versions(installed, namespace)
    under.set_policy(PRESET)
    message = violation(installed, namespace)
    assert "spec.scheduling.env[].name 'A' (no env are allowed)" in message
    assert "spec.host without spec.auth" in message
    resource = live(installed, namespace, "whisper")
    assert condition(resource, "Available")["status"] == "True"
    assert condition(live(installed, namespace, "modest"), "Ready")["status"] == "True"
    assert under.metric("whisper_operator_policy_violations") == 1
    wait_until_quiet(installed)
    # Nor does a change of its own, or a hand that takes something away, bring more than words about.
    patch(installed, namespace, replicas=3, model="turbo")
    violation(installed, namespace)
    under.set_policy({"everywhere": {"host": []}})
    until(lambda: under.metric("whisper_operator_policy_valid") == 0, "the bad policy seen")
    violation(installed, namespace)
    assert [
        line["message"]
        for line in under.log()
        if "can't be used, the last good one holds on" in line["message"]
    ]
    wait_until_quiet(installed)
    assert versions(installed, namespace) == before
    assert {each.resource for each in writes(installed, start, namespace)} <= TELLING
    # A good one mends all.
    under.set_policy({})
    wait_for_condition(installed, namespace, "whisper", "Ready", "True")
    assert under.metric("whisper_operator_policy_valid") == 1
    assert under.metric("whisper_operator_policy_violations") == 0


@pytest.mark.timeout(300)
def test_an_endpoint_that_is_not_allowed_can_still_be_suspended(
    installed: Cluster, under: Operator, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, device="cpu", scheduling={"podLabels": {"a": "b"}}))
    wait_for_condition(installed, namespace, "whisper")
    under.set_policy(PRESET)
    violation(installed, namespace)
    patch(installed, namespace, suspend=True)
    until(
        lambda: children(installed, namespace)["Deployment/whisper"]["spec"]["replicas"] == 0,
        "the Deployment scaled to nothing",
    )


@pytest.mark.timeout(300)
def test_a_host_that_is_squatted_first_is_its_owners_all_the_same(
    installed: Cluster, under: Operator, tenants: tuple[str, str]
) -> None:
    """By one who may not have it; of one who has it already, the owner waits, and learns no name."""
    owner, squatter = tenants
    under.set_policy(PRESET)
    auth = {"secretName": "whisper-keys"}
    host, other = (f"{name}.{owner}.example.com" for name in ("one", "two"))
    installed.apply(endpoint("first", squatter, device="cpu", host=host, auth=auth))
    assert f"spec.host '{host}' (allowed hosts: *.{squatter}.example.com)" in violation(
        installed, squatter, "first"
    )
    time.sleep(1)  # creationTimestamps have seconds
    installed.apply(endpoint("whisper", owner, device="cpu", host=host, auth=auth))
    until(lambda: "Ingress/whisper" in children(installed, owner), "the owner's Ingress")
    assert "Ingress/first" not in children(installed, squatter)
    # One whose Ingress has it from earlier days.
    under.set_policy({})
    installed.apply(endpoint("early", squatter, device="cpu", host=other, auth=auth))
    until(lambda: "Ingress/early" in children(installed, squatter), "the other Ingress")
    under.set_policy(PRESET)
    violation(installed, squatter, "early")
    installed.apply(endpoint("late", owner, device="cpu", host=other, auth=auth))
    resource = wait_for_condition(installed, owner, "late", "Stalled", "True", "HostConflict")
    message = condition(resource, "Ready")["message"]
    assert f"A WhisperEndpoint in another namespace has the host {other}" in message
    assert squatter not in message
    assert "Ingress/early" in children(installed, squatter)
    installed.kubectl("delete", "wep", "early", "-n", squatter)
    until(lambda: "Ingress/late" in children(installed, owner), "the owner's Ingress")


@pytest.mark.timeout(300)
def test_no_more_is_made_than_a_namespace_may_have_and_room_is_used_when_it_comes(
    installed: Cluster, under: Operator, namespace: str
) -> None:
    under.set_policy({"everywhere": {"ceilings": {"namespace": {"gpus": 3}}}})
    installed.apply(*(endpoint(name, namespace) for name in ("a", "b", "c")))
    for name in ("a", "b", "c"):
        until(lambda name=name: f"Deployment/{name}" in children(installed, namespace), name)  # type: ignore[misc]
    time.sleep(1)  # creationTimestamps have seconds
    installed.apply(endpoint("d", namespace))
    assert "gpus 1 (namespace" in without_room(installed, namespace, "d")
    assert not [name for name in children(installed, namespace) if name.endswith("/d")]
    # Scaling up waits as well, and leaves what runs; an HPA may not reach for more either.
    patch(installed, namespace, name="a", replicas=2)
    without_room(installed, namespace, "a")
    patch(installed, namespace, name="b", replicas=None, autoscaling={"max": 9})
    without_room(installed, namespace, "b")
    made = children(installed, namespace)
    assert made["Deployment/a"]["spec"]["replicas"] == made["Deployment/b"]["spec"]["replicas"] == 1
    assert "HorizontalPodAutoscaler/b" not in made
    # A restart finds the same places taken, though nobody remembers how.
    wait_until_quiet(installed)
    start = now()
    under.stop()
    under.start().wait_until_working()
    wait_until_quiet(installed)
    assert writes(installed, start, namespace) == []
    installed.kubectl("delete", "wep", "c", "-n", namespace)
    until(
        lambda: children(installed, namespace)["Deployment/a"]["spec"]["replicas"] == 2, "the oldest's turn"
    )
    without_room(installed, namespace, "d")


def made(cluster: Cluster, namespace: str, name: str) -> bool:
    return f"Deployment/{name}" in children(cluster, namespace)


@pytest.mark.timeout(300)
def test_deletions_that_leave_something_running_give_no_room_away(
    installed: Cluster, under: Operator, namespace: str
) -> None:
    """Orphans, what a finalizer of somebody's keeps, and pods that take long to end: all that runs counts until it is gone."""
    under.set_policy({"everywhere": {"ceilings": {"namespace": {"gpus": 2}}}})
    host = f"w.{namespace}.example.com"
    installed.apply(endpoint("a", namespace, replicas=2, host=host))
    until(lambda: "Ingress/a" in children(installed, namespace), "its Ingress")
    installed.kubectl("delete", "wep", "a", "-n", namespace, "--cascade=orphan")
    installed.apply(endpoint("b", namespace, host=host))
    resource = wait_for_condition(installed, namespace, "b", "Stalled", "True", "HostConflict")
    assert "An Ingress that is left of WhisperEndpoint a" in condition(resource, "Ready")["message"]
    patch(installed, namespace, name="b", host=None)
    without_room(installed, namespace, "b")
    assert under.metric("whisper_operator_orphans") == 1
    # A restart finds the orphans as well.
    under.stop()
    under.start().wait_until_working()
    wait_until_quiet(installed)
    assert not made(installed, namespace, "b")
    # Who is made anew under the name has them, and its deletion is held up.
    held = endpoint("a", namespace, replicas=2)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    installed.apply(held)
    wait_for_condition(installed, namespace, "a")
    assert under.metric("whisper_operator_orphans") == 0
    without_room(installed, namespace, "b")
    installed.kubectl("delete", "wep", "a", "-n", namespace, "--wait=false")
    time.sleep(2)
    without_room(installed, namespace, "b")
    assert not made(installed, namespace, "b")
    # Its pods stay for a while when it is gone.
    pods = [each["metadata"]["name"] for each in installed.get("pods", "-n", namespace)["items"]]
    assert len(pods) == 2
    for pod in pods:
        hold(installed, namespace, pod, ["example.com/hold"])
    installed.kubectl(
        "patch", "wep", "a", "-n", namespace, "--type=merge", "-p", '{"metadata": {"finalizers": null}}'
    )
    until(lambda: not made(installed, namespace, "a"), "its Deployment gone")
    time.sleep(2)
    without_room(installed, namespace, "b")
    hold(installed, namespace, pods[0], None)
    until(lambda: made(installed, namespace, "b"), "the room that one pod leaves")
    hold(installed, namespace, pods[1], None)


def hold(cluster: Cluster, namespace: str, pod: str, finalizers: list[str] | None) -> None:
    patched = json.dumps({"metadata": {"finalizers": finalizers}})
    cluster.kubectl("patch", "pod", pod, "-n", namespace, "--type=merge", "-p", patched)


@pytest.mark.timeout(300)
def test_an_operator_that_starts_with_a_bad_policy_changes_nothing_until_it_is_good(
    installed: Cluster, under: Operator, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, device="cpu", replicas=2))
    wait_for_condition(installed, namespace, "whisper")
    under.stop()
    under.set_policy({"preset": "multi-tennant"})
    start = now()
    under.start().wait_until_working()
    assert "policy can't be used" in violation(installed, namespace)
    patch(installed, namespace, replicas=1)
    installed.apply(endpoint("other", namespace, device="cpu"))
    violation(installed, namespace, "other")
    wait_until_quiet(installed)
    assert {each.resource for each in writes(installed, start, namespace)} <= TELLING
    patch(installed, namespace, suspend=True)
    until(
        lambda: children(installed, namespace)["Deployment/whisper"]["spec"]["replicas"] == 0,
        "the Deployment scaled to nothing",
    )
    under.set_policy({})
    wait_for_condition(installed, namespace, "other")
