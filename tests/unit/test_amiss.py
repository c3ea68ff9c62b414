"""What alerts are told of endpoints: each condition that is not as it should be, by name, and nothing of those that are well."""

from typing import Any

import pytest
from prometheus_client import generate_latest
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.process.amiss import MOST, lacking, show


def status(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "conditions": [{"type": kind, "status": word, "reason": reason} for kind, word, reason in conditions]
    }


WELL = status(("Available", "True", "Serving"), ("Ready", "True", "UpgradePending"))
STALLED = status(
    ("Available", "True", "Serving"), ("Ready", "False", "OutOfMemory"), ("Stalled", "True", "OutOfMemory")
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (WELL, []),
        (status(("Available", "False", "Suspended"), ("Ready", "False", "Suspended")), []),
        ({}, [("Ready", "NotTakenUp")]),
        (STALLED, [("Ready", "OutOfMemory"), ("Stalled", "OutOfMemory")]),
        (status(("Ready", "True", "Ready"), ("Stalled", "False", "")), []),
        (status(("Ready", "Unknown", "AccessDenied")), [("Ready", "AccessDenied")]),
        (
            status(("Ready", "False", "Deploying"), ("CertificateReady", "False", "RenewalFailed")),
            [("Ready", "Deploying"), ("CertificateReady", "RenewalFailed")],
        ),
    ],
)
def test_each_condition_that_is_amiss_is_told(said: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert list(lacking(said)) == expected


def told() -> list[str]:
    lines = generate_latest(REGISTRY).decode().splitlines()
    return [line for line in lines if line.startswith("whisper_operator_endpoint_amiss{")]


def test_who_is_well_again_or_gone_is_told_no_more() -> None:
    bad = {"metadata": {"namespace": "asr", "name": "bad"}, "status": STALLED}
    show([bad, {"metadata": {"namespace": "asr", "name": "good"}, "status": WELL}])
    labels = 'endpoint_name="bad",endpoint_namespace="asr",reason="OutOfMemory"'
    assert told() == [
        f'whisper_operator_endpoint_amiss{{condition="{kind}",{labels}}} 1.0' for kind in ("Ready", "Stalled")
    ]
    show([bad | {"status": WELL}])
    assert told() == []
    show([bad])
    show([])
    assert told() == []


def test_a_namespace_full_of_bad_ones_keeps_no_other_from_being_told() -> None:
    crowd = [
        {"metadata": {"namespace": "crowd", "name": f"bad-{number}"}, "status": STALLED}
        for number in range(500)
    ]
    well = [
        {"metadata": {"namespace": "crowd", "name": f"well-{number}"}, "status": WELL}
        for number in range(500)
    ]
    show([*well, *crowd, {"metadata": {"namespace": "asr", "name": "bad"}, "status": STALLED}])
    lines = told()
    assert len([line for line in lines if 'endpoint_namespace="crowd"' in line]) == 2 * MOST
    assert len([line for line in lines if 'endpoint_namespace="asr"' in line]) == 2
    show([])
