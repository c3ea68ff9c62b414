"""An installation is deleted and applied again, as docs/installations.md says: endpoints, and their children, do not notice."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from devcluster import Cluster, DevclusterError
from devcluster.installation import CRD, Operator, wait_for_kinds
from devcluster.paths import HERE
from tests.cluster.support import (
    CHILDREN,
    EXAMPLES,
    children,
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

DEPLOY = HERE.parent / "deploy"
FOLDERS = ["base", *(f"overlays/{path.name}" for path in sorted((DEPLOY / "overlays").iterdir()))]
NAME = "whisperendpoints.whisper-operator.io"


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        yield cluster


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_installation_holds_neither_the_crd_nor_endpoints(bare: Cluster, folder: str) -> None:
    documents = yaml.safe_load_all(bare.kubectl("kustomize", str(DEPLOY / folder)))
    kinds = {each["kind"] for each in documents}
    assert {"Namespace", "Deployment", "ServiceAccount"} <= kinds
    assert kinds & {"CustomResourceDefinition", "WhisperEndpoint"} == set()


def versions(objects: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """uid and resourceVersion by name."""
    return {
        name: (each["metadata"]["uid"], each["metadata"]["resourceVersion"]) for name, each in objects.items()
    }


@pytest.mark.timeout(600)
def test_deleting_an_installation_leaves_every_endpoint_as_it_is(bare: Cluster) -> None:
    cluster, folder = bare, str(DEPLOY / "overlays" / "example")
    cluster.kubectl("apply", "-f", str(CRD))
    cluster.kubectl("apply", "-k", folder)
    wait_for_kinds(cluster)
    operator = Operator(cluster)
    with operator:
        operator.wait_until_working()
        cluster.kubectl("apply", "-f", str(EXAMPLES / "minimal.yaml"))
        # In the operator's own namespace, where nothing else belongs: that goes with all that is in it.
        cluster.apply(
            endpoint("inside", "default", device="cpu"),
            endpoint("misplaced", "whisper-operator", device="cpu"),
        )
        for name in ("whisper", "inside"):
            wait_for_condition(cluster, "default", name)
        until(
            lambda: "Deployment/misplaced" in children(cluster, "whisper-operator"), "children of misplaced"
        )
        wait_until_quiet(cluster)
        made = versions(children(cluster, "default"))
        endpoints = {name: live(cluster, "default", name) for name in ("whisper", "inside")}
        crd = cluster.get("crd", NAME)["metadata"]["uid"]

        since = now()
        # As a pod that takes its time to end, the operator runs on, without its rights.
        cluster.kubectl("delete", "-k", folder, "--timeout=120s")
    assert not exists(cluster, "default", "namespace", "whisper-operator")
    assert cluster.get("crd", NAME)["metadata"]["uid"] == crd
    assert cluster.get("wep", "-A")["items"] == [endpoints["inside"], endpoints["whisper"]]
    assert versions(children(cluster, "default")) == made
    assert [each for each in writes(cluster, since, "default") if each.resource != "events"] == []
    assert cluster.get(CHILDREN, "-n", "whisper-operator")["items"] == []
    with pytest.raises(DevclusterError, match="CPU cores are more than 0"):
        patch(cluster, "default", name="inside", resources={"requests": {"cpu": 0}})

    cluster.kubectl("apply", "-k", folder)
    since = now()
    with Operator(cluster) as again:
        again.wait_until_working()
        wait_until_quiet(cluster)
        assert writes(cluster, since) == []
        assert versions(children(cluster, "default")) == made
        patch(cluster, "default", name="inside", limits={"maxQueue": 7})
        wait_for_condition(cluster, "default", "inside")
        assert versions(children(cluster, "default"))["Deployment/inside"] != made["Deployment/inside"]

        # All of it, on purpose: the endpoints first, as long as somebody can tell of what is in the way.
        cluster.kubectl("delete", "wep", "--all", "-A", "--timeout=60s")
        until(lambda: children(cluster, "default") == {}, "the children are collected")
        cluster.kubectl("delete", "-k", folder, "--timeout=120s")
    cluster.kubectl("delete", "-f", str(CRD), "--timeout=60s")
    assert not exists(cluster, "default", "crd", NAME)
