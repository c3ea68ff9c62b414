"""A new CRD over endpoints that an older one let through: what it refuses now stays as it is, and all else can be changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, DevclusterError
from devcluster.installation import Operator, install, wait_for_kinds
from tests.cluster.support import children, condition, endpoint, live, patch, until, wait_for_condition

RELEASED = Path(__file__).parent / "released" / "whisperendpoints-0.1.0.yaml"
CURRENT = Path(__file__).resolve().parents[2] / "crds" / "whisperendpoints.yaml"

SERVED: dict[str, Any] = {
    "device": "cpu",
    "resources": {"requests": {"cpu": 0}},
    "scheduling": {"podAnnotations": {"controller.kubernetes.io/pod-deletion-cost": "1"}},
}
"""Refused today, and yet such that children can be made of it."""
BROKEN: dict[str, Any] = {"device": "cpu", "resources": {"requests": {"cpu": -1}}}
SCALED: dict[str, Any] = {"device": "cpu", "autoscaling": {"max": 3}}
"""Without replicas, which has a default by now, and excludes autoscaling."""


def apply_crd(cluster: Cluster, path: Path) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    wait_for_kinds(cluster)


@pytest.fixture(scope="module")
def upgraded() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        install(cluster)
        apply_crd(cluster, RELEASED)
        stored = [endpoint("served", "default", **SERVED), endpoint("broken", "default", **BROKEN)]

        def accepted() -> bool:
            try:
                cluster.apply(*stored, endpoint("scaled", "default", **SCALED))
            except DevclusterError:  # the newer one may answer for a moment
                return False
            return True

        until(accepted, "the released CRD takes them")
        apply_crd(cluster, CURRENT)
        until(lambda: is_refused(cluster, "new", SERVED), "the new CRD refuses them")
        with Operator(cluster) as operator:
            operator.wait_until_working()
            yield cluster


def is_refused(cluster: Cluster, name: str, spec: dict[str, Any]) -> bool:
    try:
        body = endpoint(name, "default", **spec)
        cluster.kubectl(
            "apply", "--server-side", "--dry-run=server", "-f", "-", input=str(body).replace("'", '"')
        )
    except DevclusterError as error:
        assert "CPU cores are more than 0" in str(error)
        return True
    return False


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
