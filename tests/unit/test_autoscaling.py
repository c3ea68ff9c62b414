"""AutoscalingReady, from what the autoscaler says; and what a write may take from an autoscaler: nothing."""

from typing import Any

import pytest
from whisper_operator.apply import plan as drift
from whisper_operator.config import Settings
from whisper_operator.kube.kinds import AUTOSCALER, COMPUTE_ADDRESS, DEPLOYMENT
from whisper_operator.manifests.manifest import Manifest
from whisper_operator.observed.children import Child, Observed, Owner
from whisper_operator.spec.endpoint import SpecError, parse
from whisper_operator.status.conditions import autoscaling

SCALED = parse(
    {"metadata": {"name": "w", "namespace": "n", "uid": "u"}, "spec": {"autoscaling": {"max": 3}}},
    Settings(server_repository="r", server_version="1"),
)


def told(*reported: tuple[str, str, str, str]) -> Observed:
    names = ("type", "status", "reason", "message")
    status = {"conditions": [dict(zip(names, each, strict=True)) for each in reported]}
    owner = Owner("WhisperEndpoint", "w", "u")
    found = Child(AUTOSCALER, "n", "w", "c", 1, 1, owner, False, "h", "{}", {}, status)
    return Observed({(AUTOSCALER, "w"): found})


ABLE = ("AbleToScale", "True", "SucceededGetScale", "")
NO_CUSTOM = (
    "the HPA was unable to compute the replica count: unable to get metric whisper_requests_in_flight: unable to fetch metrics "
    "from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
)
NO_RESOURCE = (
    "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: "
    "unable to fetch metrics from resource metrics API: the server could not find the requested resource "
    "(get pods.metrics.k8s.io)"
)
DOWN = f"{NO_CUSTOM[: NO_CUSTOM.index(': no custom')]}: the server is currently unable to handle the request"
UNAVAILABLE = f"{NO_CUSTOM[: NO_CUSTOM.index(': no custom')]}: no known available metric versions found"
NO_FIGURES = "the HPA was unable to compute the replica count: no metrics returned from custom metrics API"


@pytest.mark.parametrize(
    ("seen", "status", "reason", "words", "needs_action"),
    [
        (Observed.nothing(), "False", "AutoscalerPending", "no HorizontalPodAutoscaler yet", False),
        (told(), "False", "AutoscalerPending", "not looked", False),
        (told(ABLE, ("ScalingActive", "True", "ValidMetricFound", "")), "True", "Active", "follows", False),
        (
            told(ABLE, ("ScalingActive", "False", "ScalingDisabled", "")),
            "False",
            "AutoscalerPending",
            "yet",
            False,
        ),
        (
            told(ABLE, ("ScalingActive", "False", "FailedGetPodsMetric", NO_CUSTOM)),
            "False",
            "NoMetricsAPI",
            "install an adapter that serves the custom metrics API",
            True,
        ),
        (
            told(ABLE, ("ScalingActive", "False", "FailedGetResourceMetric", NO_RESOURCE)),
            "False",
            "NoMetricsAPI",
            "install metrics-server",
            True,
        ),
        (
            told(ABLE, ("ScalingActive", "False", "FailedGetPodsMetric", DOWN)),
            "False",
            "NoMetricsAPI",
            "can't see the load",
            False,
        ),
        (
            told(ABLE, ("ScalingActive", "False", "FailedGetPodsMetric", UNAVAILABLE)),
            "False",
            "NoMetricsAPI",
            "can't see the load",
            False,
        ),
        (
            told(ABLE, ("ScalingActive", "False", "FailedGetPodsMetric", NO_FIGURES)),
            "False",
            "NoMetrics",
            "whether their metrics are collected",
            False,
        ),
        (told(("AbleToScale", "False", "FailedGetScale", "no")), "False", "FailedGetScale", "no", False),
    ],
)
def test_what_the_autoscaler_lacks(
    seen: Observed, status: str, reason: str, words: str, needs_action: bool
) -> None:
    (found,) = autoscaling.conditions(SCALED, seen)
    assert (found.type, found.status, found.reason) == ("AutoscalingReady", status, reason)
    assert words in found.message
    assert found.needs_action is needs_action


def test_without_autoscaling_there_is_no_condition() -> None:
    fixed = parse({"metadata": {"name": "w"}, "spec": {"image": "i"}}, Settings())
    assert autoscaling.conditions(fixed, told(ABLE)) == []
    assert autoscaling.conditions(SpecError("X", "x"), Observed.nothing()) == []
    # A spec that can't be read says nothing of the autoscaler, which is still at work.
    assert autoscaling.conditions(SpecError("X", "x"), told(ABLE))


def raw(*managers: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": "n", "name": "w", "uid": "c", "resourceVersion": "8", "managedFields": list(managers)}  # fmt: skip
    return {"metadata": metadata, "spec": {"replicas": 2}}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
OURS = {"manager": "whisper-operator", "operation": "Apply", "fieldsV1": REPLICAS}


@pytest.mark.parametrize(
    ("managers", "shared"),
    [
        ([OURS], False),
        ([OURS, {"manager": "kwok", "operation": "Update", "fieldsV1": {"f:status": {}}}], False),
        (
            [{"manager": "kcm", "operation": "Update", "subresource": "scale", "fieldsV1": REPLICAS}],
            True,
        ),
        ([OURS, {"manager": "argo", "operation": "Apply", "fieldsV1": REPLICAS}], True),
    ],
)
def test_one_bit_is_kept_of_who_else_scales(managers: list[dict[str, Any]], shared: bool) -> None:
    assert Child.of(DEPLOYMENT, raw(*managers)).scaled_by_others is shared


def test_what_was_read_is_written_only_over_what_was_read() -> None:
    manifest = Manifest(
        DEPLOYMENT, "n", "w", {"metadata": {"name": "w"}, "spec": {}}, expected_resource_version=8
    )
    assert drift.applied(manifest, uid="c")["metadata"]["resourceVersion"] == "8"
    assert drift.fingerprint(manifest) == drift.fingerprint(
        Manifest(DEPLOYMENT, "n", "w", {"metadata": {"name": "w"}, "spec": {}})
    )


KEPT = '{"f:cnrm.cloud.google.com/deletion-policy":{}}'


@pytest.mark.parametrize(("own_fields", "deleted"), [(KEPT, True), ("{}", False)])
def test_an_address_is_deleted_only_while_that_keeps_what_it_stands_for(
    own_fields: str, deleted: bool
) -> None:
    address = Child(COMPUTE_ADDRESS, "n", "ip", "c", 1, 1, None, False, "h", own_fields, {}, {})
    plan = drift.plan((), Observed({(COMPUTE_ADDRESS, "ip"): address}))
    assert plan.delete == ((address,) if deleted else ())
