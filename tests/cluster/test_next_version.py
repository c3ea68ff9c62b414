"""The way to v1beta1 that docs/upgrades.md tells, on endpoints that a released CRD let in: to keep it open, it is walked here."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import yaml

from devcluster import Cluster, DevclusterError
from devcluster.installation import CRD, Operator, install
from tests.cluster.stored import ENDPOINTS, NAMESPACE, apply_crd, complaint, store
from tests.cluster.support import (
    children,
    condition,
    endpoint,
    now,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)

KIND = "whisperendpoints.{}.whisper-operator.io"
NAME = "whisperendpoints.whisper-operator.io"


def with_next_version() -> dict[str, Any]:
    """Today's CRD and v1beta1, with the same schema, in which objects are stored from now on."""
    crd: dict[str, Any] = yaml.safe_load(CRD.read_text())
    (today,) = crd["spec"]["versions"]
    crd["spec"]["versions"] = [today | {"storage": False}, today | {"name": "v1beta1"}]
    return crd


def listed(cluster: Cluster, version: str) -> dict[str, dict[str, Any]]:
    items = cluster.get(KIND.format(version), "-n", NAMESPACE)["items"]
    assert {item["apiVersion"] for item in items} == {f"whisper-operator.io/{version}"}
    return {item["metadata"]["name"]: item for item in items}


def uids(cluster: Cluster) -> dict[str, str]:
    return {name: child["metadata"]["uid"] for name, child in children(cluster, NAMESPACE).items()}


def stored_versions(cluster: Cluster) -> list[str]:
    versions: list[str] = cluster.get("crd", NAME)["status"]["storedVersions"]
    return versions


def carried_out(cluster: Cluster, since: datetime) -> list[tuple[str, str, str, int]]:
    """What was written. Some of these endpoints ask for children that the API server refuses (422): they are tried again."""
    found = ((each.verb, each.resource, each.name, each.code) for each in writes(cluster, since))
    return [each for each in found if each[-1] != 422]


def rewritten(cluster: Cluster) -> dict[str, str]:
    """Write every endpoint as it is; the resourceVersions after that."""
    for name in listed(cluster, "v1beta1"):
        cluster.kubectl(
            *("patch", KIND.format("v1beta1"), name, "-n", NAMESPACE, "--type=merge", "-p", "{}"),
        )
    return {name: each["metadata"]["resourceVersion"] for name, each in listed(cluster, "v1beta1").items()}


@pytest.fixture(scope="module")
def moved() -> Iterator[tuple[Cluster, Operator]]:
    """Endpoints that 0.1.0 stored, under the operator, and with v1beta1 added meanwhile."""
    with Cluster.start() as cluster:
        install(cluster)
        store(cluster)
        with Operator(cluster) as operator:
            operator.wait_until_working()

            def all_told() -> bool:
                return all(condition(each, "Ready") for each in listed(cluster, "v1alpha1").values())

            until(all_told, "a status for each", ceiling=120)
            since = wait_until_quiet(cluster)
            before = listed(cluster, "v1alpha1")
            apply_crd(cluster, with_next_version())
            until(lambda: served(cluster), "v1beta1 is served")
            for version in ("v1alpha1", "v1beta1"):
                after = listed(cluster, version)
                assert {name: each["spec"] for name, each in after.items()} == {
                    name: each["spec"] for name, each in before.items()
                }
                assert all(after[name]["status"] == before[name]["status"] for name in ENDPOINTS)
                assert all(
                    after[name]["metadata"]["uid"] == before[name]["metadata"]["uid"] for name in after
                )
            wait_until_quiet(cluster)
            assert writes(cluster, since) == []
            yield cluster, operator


def served(cluster: Cluster) -> bool:
    try:
        return bool(listed(cluster, "v1beta1"))
    except DevclusterError:
        return False


@pytest.mark.timeout(300)
def test_the_operator_of_today_goes_on_whichever_version_is_written(moved: tuple[Cluster, Operator]) -> None:
    cluster, _ = moved
    change = ("-n", NAMESPACE, "--type=merge", "-p")
    for queue, version in ((7, "v1alpha1"), (8, "v1beta1")):
        limits = json.dumps({"spec": {"limits": {"maxQueue": queue}}})
        cluster.kubectl("patch", KIND.format(version), "nothing-said", *change, limits)
        wanted = {"name": "WHISPER_MAX_QUEUE", "value": str(queue)}

        def carried_out(wanted: dict[str, str] = wanted) -> bool:
            deployment = children(cluster, NAMESPACE)["Deployment/nothing-said"]["spec"]
            return wanted in deployment["template"]["spec"]["containers"][0]["env"]

        until(carried_out, f"what was written as {version} is in the pods")
    # One that was never stored as v1alpha1; and gone by v1beta1, with its children, is one that was.
    cluster.apply(endpoint("new", NAMESPACE, device="cpu") | {"apiVersion": "whisper-operator.io/v1beta1"})
    wait_for_condition(cluster, NAMESPACE, "new")
    assert condition(listed(cluster, "v1alpha1")["new"], "Ready")["status"] == "True"
    assert "Deployment/everything" in children(cluster, NAMESPACE)
    cluster.kubectl("delete", KIND.format("v1beta1"), "everything", "-n", NAMESPACE)

    def gone() -> bool:
        owners = [
            owner["name"]
            for child in children(cluster, NAMESPACE).values()
            for owner in child["metadata"]["ownerReferences"]
        ]
        return "everything" not in owners and "new" in owners

    until(gone, "its children are collected")


@pytest.mark.timeout(300)
def test_an_operator_that_starts_after_the_move_writes_nothing(moved: tuple[Cluster, Operator]) -> None:
    cluster, operator = moved
    wait_until_quiet(cluster)
    operator.stop()
    since = now()
    operator.start().wait_until_working()
    wait_until_quiet(cluster)
    assert carried_out(cluster, since) == []


@pytest.mark.timeout(300)
def test_the_old_version_can_go_from_the_store_once_every_endpoint_is_written_anew(
    moved: tuple[Cluster, Operator],
) -> None:
    cluster, _ = moved
    assert stored_versions(cluster) == ["v1alpha1", "v1beta1"]
    alone = with_next_version()
    del alone["spec"]["versions"][0]
    with pytest.raises(
        DevclusterError, match=r"v1alpha1 was previously a storage version, and must remain in spec"
    ):
        apply_crd(cluster, alone)

    wait_until_quiet(cluster)
    before = {name: each["metadata"]["resourceVersion"] for name, each in listed(cluster, "v1beta1").items()}
    once = rewritten(cluster)
    # A write that changes nothing is none, unless what is stored is of another version.
    untouched = [name for name in before if name.startswith("refused-")]
    assert untouched
    assert [name for name in untouched if once[name] == before[name]] == []
    assert rewritten(cluster) == once
    cluster.kubectl(
        *("patch", "crd", NAME, "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": {"storedVersions": ["v1beta1"]}})),
    )
    assert stored_versions(cluster) == ["v1beta1"]
    assert {*listed(cluster, "v1alpha1")} == {*listed(cluster, "v1beta1")} == {*before}


@pytest.mark.timeout(300)
def test_the_old_version_taken_away_too_early_costs_nothing_that_runs(
    moved: tuple[Cluster, Operator],
) -> None:
    cluster, operator = moved
    since, before = wait_until_quiet(cluster), uids(cluster)
    crd, said = with_next_version(), len(operator.complaints())
    crd["spec"]["versions"][0]["served"] = False
    apply_crd(cluster, crd)
    until(
        lambda: any(NAME in str(line["message"]) for line in operator.complaints()[said:]),
        "the operator misses its kind",
        ceiling=120,
    )
    time.sleep(40)  # The garbage collector looks at the kinds every 30 s.
    assert uids(cluster) == before
    assert carried_out(cluster, since) == []

    apply_crd(cluster, with_next_version())
    until(lambda: "nothing-said" in listed(cluster, "v1alpha1"), "v1alpha1 is served again")
    limits = json.dumps({"spec": {"limits": {"maxQueue": 9}}})
    cluster.kubectl("patch", "wep", "nothing-said", "-n", NAMESPACE, "--type=merge", "-p", limits)
    wait_for_condition(cluster, NAMESPACE, "nothing-said", "Ready")
    assert uids(cluster) == before


@pytest.mark.timeout(300)
def test_a_field_of_one_version_only_is_lost(moved: tuple[Cluster, Operator]) -> None:
    """Why versions that are served together have the same fields. The last test: the CRD is not put back."""
    cluster, _ = moved
    crd = with_next_version()
    old, new = crd["spec"]["versions"]
    crd["spec"]["versions"] = [old, json.loads(json.dumps(new))]
    spec = crd["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["region"] = {"type": "string"}
    apply_crd(cluster, crd)
    body = endpoint("regional", NAMESPACE, device="cpu", suspend=True, region="west")
    body["apiVersion"] = "whisper-operator.io/v1beta1"
    until(lambda: complaint(cluster, body) == "", "the field is known")
    cluster.apply(body)
    # By the operator, which writes a status as v1alpha1.
    wait_for_condition(cluster, NAMESPACE, "regional")
    assert "region" not in listed(cluster, "v1beta1")["regional"]["spec"]
