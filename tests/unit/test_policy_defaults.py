"""What a policy has an endpoint be that does not say."""

import json
from functools import cache
from typing import Any

import pytest
from whisper_operator.offline import crd_schema
from whisper_operator.policy.defaults import completed
from whisper_operator.spec.endpoint import parse

from tests.unit.making import SETTINGS, Body
from tests.unit.policies import policy, refused, understood


def test_defaults_are_what_a_spec_does_not_say() -> None:
    under = policy(
        preset="multi-tenant",
        everywhere={
            "defaults": {
                "accelerator": {"type": "nvidia-h100-80gb"},
                "limits": {"maxQueue": 4},
                "scheduling": {"priorityClassName": "asr", "nodeSelector": {"pool": "asr"}},
            }
        },
    )
    found = understood({"limits": {"requestTimeoutSeconds": 60}}, under)
    assert found.gpu is not None
    assert found.gpu.type == "nvidia-h100-80gb", "the installation's own word needs no place in its lists"
    assert (found.limits.max_queue, found.limits.request_timeout_seconds) == (4, 60)
    assert found.scheduling.node_selector == {"pool": "asr"}
    assert understood({"device": "cpu"}, under).gpu is None
    # But nobody else may say so.
    assert "priorityClassName 'asr'" in refused({"scheduling": {"priorityClassName": "asr"}}, under)


def test_defaults_for_the_load_balancer_are_gkes_alone() -> None:
    given = {"ingress": {"sslPolicy": "modern"}}
    assert completed({}, given) == {}
    assert completed({"host": "a.example.com"}, given)["ingress"] == {"sslPolicy": "modern"}
    nginx = {"host": "a.example.com", "ingress": {"class": "nginx"}}
    assert completed(nginx, given) == nginx


@pytest.mark.parametrize(
    ("name", "default", "spec"),
    [
        ("resources", {"limits": {"memory": "8Gi"}}, {"resources": {"requests": {"memory": "16Gi"}}}),
        ("engine", "faster-whisper", {"computeType": "bfloat16"}),
        ("limits", {"maxQueue": 4}, {"autoscaling": {"max": 2, "targetInFlight": 8}}),
        ("defaults", {"language": "de"}, {"model": "small.en"}),
        ("accelerator", {"type": "nvidia-l4"}, {"device": "cpu"}),
    ],
)
def test_a_default_never_makes_a_spec_that_the_api_server_would_refuse(
    name: str, default: Any, spec: Body
) -> None:
    assert completed(spec, {name: default}) == spec
    assert completed({}, {name: default}) == {name: default}


DEFAULTS: tuple[Body, ...] = (
    {"model": "turbo"},
    {"model": "small.en"},
    {"model": "medium"},
    {"defaults": {"task": "translate"}},
    {"defaults": {"language": "yue"}},
    {"defaults": {"language": "de", "prompt": "x"}},
    {"limits": {"maxQueue": 1}},
    {"limits": {"maxQueue": 4}},
    {"engine": "faster-whisper"},
    {"accelerator": {"type": "nvidia-l4", "spot": True}},
    {"resources": {"limits": {"memory": "8Gi", "cpu": 2}}},
    {"resources": {"requests": {"memory": "32Gi", "cpu": 8}}},
    {"resources": {"limits": {"ephemeral-storage": "8Gi"}}},
    {"resources": {"requests": {"ephemeral-storage": "8Gi"}}},
    {"ingress": {"httpsRedirect": True}},
    {"ingress": {"sslPolicy": "modern", "securityPolicy": "office"}},
    {"scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}]}},
)


CLAIM = {"persistentVolumeClaim": {"claimName": "m"}}


SPECS: tuple[Body, ...] = (
    {"defaults": {"task": "translate"}},
    {"defaults": {"language": "de"}},
    {"defaults": {"language": "yue", "prompt": "y"}},
    {"model": "turbo"},
    {"model": "small.en"},
    {"model": "/models/a.pt", "modelVolume": CLAIM},
    {"model": "turbo", "modelVolume": {"emptyDir": {"sizeLimit": "20Gi"}}},
    {"autoscaling": {"max": 3}},
    {"autoscaling": {"max": 3, "targetInFlight": 31}},
    {"autoscaling": {"max": 3, "targetInFlight": 7}, "limits": {"maxQueue": 8}},
    {"limits": {"maxQueue": 1}},
    {"device": "cpu", "computeType": "int8", "engine": "faster-whisper"},
    {"device": "cpu", "autoscaling": {"max": 2}},
    {"computeType": "bfloat16", "accelerator": {"type": "nvidia-l4"}},
    {"accelerator": {"spot": True}},
    {"resources": {"requests": {"memory": "16Gi", "cpu": 4, "ephemeral-storage": "99Gi"}}},
    {"resources": {"limits": {"memory": "4Gi"}}},
    {"host": "a.example.com"},
    {"host": "a.example.com", "ingress": {"tls": {"mode": "none"}}},
    {"host": "a.example.com", "ingress": {"tls": {"secretName": "s"}}},
    {"host": "a.example.com", "ingress": {"class": "gce-internal"}},
    {"host": "a.example.com", "ingress": {"class": "nginx", "annotations": {"a": "b"}}},
)


@pytest.mark.parametrize("default", DEFAULTS, ids=str)
def test_beside_any_default_every_good_spec_is_still_good(default: Body) -> None:
    """Else a new default would break what runs; by the CRD's own rules, and by what the operator makes of it."""
    for spec in SPECS:
        whole = completed(spec, default)
        assert complaints(json.dumps(spec)) == []
        assert complaints(json.dumps(whole)) == [], (spec, default)
        parse({"metadata": METADATA, "spec": whole}, SETTINGS)


METADATA = {"name": "whisper", "namespace": "asr"}


@cache
def complaints(spec: str) -> list[str]:
    head = {"apiVersion": "whisper-operator.io/v1alpha1", "kind": "WhisperEndpoint", "metadata": METADATA}
    return crd_schema.complaints({**head, "spec": json.loads(spec)})
