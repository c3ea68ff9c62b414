"""Kinds that not every cluster has: metrics are collected by whoever is there, and an address outlives its endpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator, install
from tests.cluster.support import (
    condition,
    endpoint,
    exists,
    live,
    now,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)

CRDS = Path(__file__).parent / "crds"
ADDRESSED = {"host": "a.example.com", "staticIPName": "ip", "ingress": {"reserveStaticIP": True}}
CONFIG_CONNECTOR = "compute.cnrm.cloud.google.com"


@pytest.fixture(scope="module")
def other() -> Iterator[Cluster]:
    """A cluster whose metrics are a Prometheus operator's, with Config Connector coming later."""
    with Cluster.start() as cluster:
        cluster.kubectl("delete", "crd", "podmonitorings.monitoring.googleapis.com")
        cluster.kubectl("apply", "-f", str(CRDS / "podmonitors.yaml"))
        install(cluster)
        yield cluster


@pytest.fixture(scope="module")
def its_operator(other: Cluster) -> Iterator[Operator]:
    with Operator(other) as operator:
        yield operator.wait_until_working()


def address(cluster: Cluster) -> dict[str, Any]:
    return dict(cluster.get("computeaddress", "ip", "-n", "default")["metadata"])


def test_metrics_are_collected_by_what_the_cluster_has(other: Cluster, its_operator: Operator) -> None:
    other.apply(endpoint("metered", "default", device="cpu"))
    wait_for_condition(other, "default", "metered")
    (port,) = other.get("podmonitor", "metered", "-n", "default")["spec"]["podMetricsEndpoints"]
    assert (port["port"], port["path"]) == ("ops", "/metrics")
    assert port["relabelings"][0]["targetLabel"] == "whisper_endpoint"
    # What the API server fills in is nobody's drift.
    start = wait_until_quiet(other)
    other.kubectl("delete", "podmonitor", "metered", "-n", "default")
    until(lambda: exists(other, "default", "podmonitor", "metered"), "the PodMonitor back")
    wait_until_quiet(other)
    assert len(writes(other, start, "default")) == 1
    # A kind that is lacking and that nobody needs is worth no complaint; kopf says only how it waited for the one that came.
    said = [line["message"] for line in its_operator.complaints()]
    assert [each for each in said if "podmonitors" not in each] == []


@pytest.mark.timeout(300)
def test_an_address_is_reserved_and_never_freed(other: Cluster, its_operator: Operator) -> None:
    other.apply(endpoint("first", "default", **ADDRESSED))
    resource = wait_for_condition(other, "default", "first", "Ready", "False", "KindNotInstalled")
    message = condition(resource, "Ready")["message"]
    assert f"computeaddresses.{CONFIG_CONNECTOR}" in message
    assert "Config Connector" in message

    other.kubectl("apply", "-f", str(CRDS / "computeaddresses.yaml"))
    wait_for_condition(other, "default", "first")
    reserved = address(other)
    assert "ownerReferences" not in reserved
    assert reserved["annotations"]["cnrm.cloud.google.com/deletion-policy"] == "abandon"
    start = wait_until_quiet(other)

    # It is put right, and made anew, like every other child.
    policy = "cnrm.cloud.google.com/deletion-policy"
    other.kubectl("annotate", "computeaddress", "ip", "-n", "default", "--overwrite", f"{policy}=delete")
    until(lambda: address(other)["annotations"][policy] == "abandon", "the annotation back")

    # The next endpoint that asks for it has it: deleting the first one left it alone.
    other.kubectl("delete", "wep", "first", "-n", "default")
    until(lambda: not exists(other, "default", "deployment", "first"), "the first one gone")
    assert address(other)["uid"] == reserved["uid"]
    other.apply(endpoint("second", "default", **ADDRESSED))
    wait_for_condition(other, "default", "second")
    taken = address(other)
    assert taken["uid"] == reserved["uid"]
    assert taken["labels"]["whisper-operator.io/endpoint"] == "second"
    wait_until_quiet(other)

    # No longer asked for, the object goes; what it stands for stays, by its annotation.
    patch(other, "default", name="second", ingress=None)
    until(lambda: not exists(other, "default", "computeaddress", "ip"), "no ComputeAddress")
    wait_for_condition(other, "default", "second")
    deletions = [each for each in writes(other, start, "default") if each.verb == "delete"]
    assert [each.resource for each in deletions] == [f"{CONFIG_CONNECTOR}/computeaddresses"]


def test_an_address_of_somebody_elses_is_not_touched(other: Cluster, its_operator: Operator) -> None:
    other.kubectl("apply", "-f", str(CRDS / "computeaddresses.yaml"))
    metadata = {"name": "theirs", "namespace": "default"}
    theirs = {"apiVersion": f"{CONFIG_CONNECTOR}/v1beta1", "kind": "ComputeAddress", "metadata": metadata}
    until(
        lambda: not _raises(other, {**theirs, "spec": {"location": "global"}}), "the ComputeAddress applied"
    )
    other.apply(
        endpoint("third", "default", **{**ADDRESSED, "staticIPName": "theirs", "host": "c.example.com"})
    )
    resource = wait_for_condition(other, "default", "third", "Stalled", "True", "NameConflict")
    assert "leave out ingress.reserveStaticIP" in condition(resource, "Ready")["message"]
    start = now()
    patch(other, "default", name="third", ingress=None)
    wait_for_condition(other, "default", "third")
    # To try to make one of that name is refused, as it is there.
    made = [each for each in writes(other, start, "default") if each.code < 400]
    assert not [each for each in made if "computeaddresses" in each.resource]
    assert "labels" not in other.get("computeaddress", "theirs", "-n", "default")["metadata"]


def test_what_config_connector_says_of_an_address_is_passed_on(
    other: Cluster, its_operator: Operator
) -> None:
    """Its events are about an object that is not named as the endpoint is."""
    other.kubectl("apply", "-f", str(CRDS / "computeaddresses.yaml"))
    settings = {"name": "gke-stand-in", "namespace": "default"}
    other.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": settings, "data": {"missingStaticIPs": "late"}}
    )
    other.apply(
        endpoint("fourth", "default", **{**ADDRESSED, "staticIPName": "late", "host": "d.example.com"})
    )
    wait_for_condition(other, "default", "fourth", "AddressAssigned", "False", "StaticIPNotFound")
    about = other.get("computeaddress", "late", "-n", "default")
    names = {
        "kind": "ComputeAddress",
        "namespace": "default",
        "name": "late",
        "uid": about["metadata"]["uid"],
    }
    other.apply(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "late.1", "namespace": "default"},
            "involvedObject": names,
            "type": "Warning",
            "reason": "UpdateFailed",
            "message": "Update call failed: googleapi: Error 403: forbidden",
        }
    )
    words = "Config Connector says: Update call failed: googleapi: Error 403: forbidden"

    def told() -> bool:
        return words in condition(live(other, "default", "fourth"), "AddressAssigned")["message"]

    until(told, "the event is passed on")


def _raises(cluster: Cluster, resource: dict[str, Any]) -> bool:
    """A kind takes a moment to be served after its definition was applied."""
    try:
        cluster.apply(resource)
    except Exception:
        return True
    return False
