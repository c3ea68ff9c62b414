"""A new CRD over endpoints that an older one let through: what it refuses now stays as it is, and all else can be changed."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from devcluster import Cluster, DevclusterError
from devcluster.installation import Operator, install
from tests.cluster.stored import ENDPOINTS, NAMESPACE, REFUSED, STORED, complaint, store
from tests.cluster.support import children, condition, endpoint, live, patch, until, wait_for_condition

SERVED: dict[str, Any] = {
    "device": "cpu",
    "resources": {"requests": {"cpu": 0}},
    "scheduling": {"podAnnotations": {"controller.kubernetes.io/pod-deletion-cost": "1"}},
}
"""Refused today, and yet such that children can be made of it."""
BROKEN: dict[str, Any] = {"device": "cpu", "resources": {"requests": {"cpu": -1}}}
SCALED: dict[str, Any] = {"device": "cpu", "autoscaling": {"max": 3}}
"""Without replicas, which has a default by now, and excludes autoscaling."""

CORS = {"allowedOrigins": ["https://other.example.com"]}


@pytest.fixture(scope="module")
def upgraded() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        install(cluster)
        specs = {"served": SERVED, "broken": BROKEN, "scaled": SCALED}
        store(cluster, *(endpoint(name, "default", **spec) for name, spec in specs.items()))
        with Operator(cluster) as operator:
            operator.wait_until_working()
            yield cluster


def stored(cluster: Cluster) -> dict[str, dict[str, Any]]:
    items = cluster.get("whisperendpoints", "-n", NAMESPACE)["items"]
    return {item["metadata"]["name"]: item for item in items}


def with_default(spec: dict[str, Any]) -> dict[str, Any]:
    return {"replicas": 1} | spec


def replaced(cluster: Cluster, name: str) -> bool:
    """Whether it could be written as a whole, with one field changed, as kubectl edit does; not if its status came between."""
    body = live(cluster, NAMESPACE, name)
    body["spec"]["cors"] = CORS
    try:
        cluster.kubectl("replace", "-f", "-", input=json.dumps(body))
    except DevclusterError as error:
        assert "is invalid" not in str(error), error
        return False
    return True


def wait_until_told(cluster: Cluster) -> None:
    """Until the operator has written each one's status for the spec as it is."""

    def told() -> bool:
        return all(
            condition(each, "Ready").get("observedGeneration") == each["metadata"]["generation"]
            for each in stored(cluster).values()
        )

    until(told, "a status for each", ceiling=120)


@pytest.mark.timeout(300)
def test_what_is_stored_would_partly_be_refused_today(upgraded: Cluster) -> None:
    """Or the tests below would prove nothing."""
    assert {name for name in ENDPOINTS if name.startswith("refused-")} == set(REFUSED)
    for name, body in ENDPOINTS.items():
        again = body | {"metadata": {"name": f"again-{name}", "namespace": NAMESPACE}}
        said = complaint(upgraded, again)
        assert [each for each in REFUSED.get(name, ()) if each not in said] == [], name
        assert (said != "") == (name in REFUSED), said


@pytest.mark.timeout(300)
def test_all_that_is_stored_is_read_and_changed_in_every_way(upgraded: Cluster) -> None:
    """Each way is tried on all of them at once: kubectl tells of every one that is refused."""
    kubectl = upgraded.kubectl
    names = [*ENDPOINTS]
    fixed = [name for name in names if "autoscaling" not in ENDPOINTS[name]["spec"]]
    expected = {name: with_default(body["spec"]) for name, body in ENDPOINTS.items()}
    assert {name: each["spec"] for name, each in stored(upgraded).items()} == expected
    for name in names:
        assert live(upgraded, NAMESPACE, name)["spec"] == expected[name]
    wait_until_told(upgraded)

    kubectl("label", "wep", *names, "-n", NAMESPACE, "team=speech")
    kubectl("annotate", "wep", *names, "-n", NAMESPACE, "example.com/seen=yes")
    kubectl("scale", "wep", *fixed, "-n", NAMESPACE, "--replicas=3")
    change = json.dumps({"spec": {"limits": {"maxAudioSeconds": 1800}}})
    kubectl("patch", "wep", *names, "-n", NAMESPACE, "--type=merge", "-p", change)
    for name in names:
        expected[name]["limits"] = expected[name].get("limits", {}) | {"maxAudioSeconds": 1800}
        if name in fixed:
            expected[name]["replicas"] = 3
    assert {name: each["spec"] for name, each in stored(upgraded).items()} == expected

    # The files that they came from, as they are and with a change, in both ways that kubectl has.
    kubectl("apply", "-n", NAMESPACE, "-f", str(STORED))
    changed = [
        body
        | {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": body["spec"] | {"defaults": {"prompt": "Names."}},
        }
        for name, body in ENDPOINTS.items()
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": changed})
    kubectl("apply", "-f", "-", input=listed)
    assert {each["spec"]["defaults"]["prompt"] for each in stored(upgraded).values()} == {"Names."}
    for body in changed:
        body["spec"] = body["spec"] | {"limits": {"maxQueue": 9}}
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": changed})
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=listed)
    assert {each["spec"]["limits"]["maxQueue"] for each in stored(upgraded).values()} == {9}

    for name in names:
        until(partial(replaced, upgraded, name), f"{name} as a whole")
    assert all(each["spec"]["cors"] == CORS for each in stored(upgraded).values())

    wait_until_told(upgraded)


@pytest.mark.timeout(300)
def test_a_part_that_is_refused_can_be_mended_but_not_made_worse(upgraded: Cluster) -> None:
    """Rules on an object, a map or a list stand in the way of changes in that one."""
    wrong = {"requests": {"cpu": -1}}
    with pytest.raises(DevclusterError, match="CPU cores are more than 0"):
        patch(upgraded, NAMESPACE, name="refused-amounts", resources=wrong)
    with pytest.raises(DevclusterError, match="ephemeral-storage must not exceed"):
        patch(upgraded, NAMESPACE, name="refused-amounts", resources={"limits": {"memory": "5Gi"}})
    more = {"podAnnotations": {"example.com/more": "1"}}
    with pytest.raises(DevclusterError, match="no annotation can have"):
        patch(upgraded, NAMESPACE, name="refused-scheduling", scheduling=more)
    patch(upgraded, NAMESPACE, name="refused-scheduling", scheduling={"priorityClassName": "high"})
    enough = {"requests": {"cpu": 1}, "limits": {"ephemeral-storage": "20Gi"}}
    patch(upgraded, NAMESPACE, name="refused-amounts", resources=enough)
    wait_for_condition(upgraded, NAMESPACE, "refused-amounts")


@pytest.mark.timeout(300)
def test_an_endpoint_that_is_refused_today_is_served_and_can_be_changed(upgraded: Cluster) -> None:
    resource = wait_for_condition(upgraded, "default", "served")  # so its status can be written
    assert resource["spec"]["resources"] == SERVED["resources"]

    patch(upgraded, "default", name="served", limits={"maxQueue": 7})
    upgraded.kubectl("scale", "wep", "served", "--replicas=2")
    upgraded.kubectl("label", "wep", "served", "team=speech")
    # As a tool does that applies the whole file again.
    upgraded.apply(endpoint("served", "default", **SERVED, defaults={"language": "de"}))
    wait_for_condition(upgraded, "default", "served")
    deployment = children(upgraded, "default")["Deployment/served"]["spec"]
    environment = deployment["template"]["spec"]["containers"][0]["env"]
    assert {"name": "WHISPER_MAX_QUEUE", "value": "7"} in environment
    assert {"name": "WHISPER_LANGUAGE", "value": "de"} in environment
    assert deployment["replicas"] == 2

    with pytest.raises(DevclusterError, match="CPU cores are more than 0"):
        patch(upgraded, "default", name="served", resources={"requests": {"cpu": -1}})


@pytest.mark.timeout(300)
def test_one_that_never_worked_is_told_of_and_can_be_mended(upgraded: Cluster) -> None:
    resource = wait_for_condition(upgraded, "default", "broken", "Ready", "False", "ApplyRefused")
    assert "must be greater than or equal to 0" in condition(resource, "Ready")["message"]
    patch(upgraded, "default", name="broken", resources=None)
    wait_for_condition(upgraded, "default", "broken")


@pytest.mark.timeout(300)
def test_a_default_of_today_does_not_contradict_what_is_stored(upgraded: Cluster) -> None:
    until(lambda: "HorizontalPodAutoscaler/scaled" in children(upgraded, "default"), "the autoscaler")
    patch(upgraded, "default", name="scaled", autoscaling={"max": 4})
    resource = live(upgraded, "default", "scaled")
    assert resource["spec"]["autoscaling"] == {"max": 4}
    assert resource["spec"]["replicas"] == 1
