"""What render refuses, as the API server would; that the two agree is tested on a cluster, with generated endpoints."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import pytest
from whisper_operator.offline import crd_schema
from whisper_operator.spec.words import LONGEST


def endpoint(name: str = "whisper", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "asr"}, "spec": spec}


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (endpoint("Whisper_X"), "must start with a lower-case letter"),
        (endpoint("w" * 41), "at most 40 characters"),
        ({"metadata": {}, "spec": {}}, "metadata.name is missing"),
        ({"metadata": {"name": 5}}, "metadata.name is missing"),
        ({"metadata": {"name": "w"}}, "'spec' is a required property"),
        ({"metadata": {"name": "w"}, "spec": [1]}, "is not of type 'object'"),
        (endpoint(modle="large-v3"), "spec: unknown field 'modle': did you mean model?"),
        (endpoint(gpus=2), "spec: unknown field 'gpus': use accelerator, additionalHosts, auth"),
        (endpoint(image=1.5), "spec.image: 1.5 is no text: put it in quotes"),
        (endpoint(resources={"requests": {"cpu": 2.5}}), "spec.resources.requests.cpu: 2.5 is no text"),
        (
            endpoint(accelerator={"count": 2}),
            "spec.accelerator.count: leave it out: each replica has one GPU",
        ),
        (
            endpoint(resources={"limits": {"nvidia.com/gpu": 1}}),
            "spec.resources.limits.nvidia.com/gpu: leave it out: each replica has one GPU",
        ),
        (
            endpoint(resources={"requests": {"cpu": -1}}),
            "spec.resources.requests.cpu: CPU cores are more than 0",
        ),
        (endpoint(resources={"requests": {"memory": "24GB"}}), "no B, such as 24G or 24Gi"),
        (
            endpoint(
                resources={"requests": {"ephemeral-storage": "2Gi"}, "limits": {"ephemeral-storage": "1Gi"}}
            ),
            "spec.resources: resources.requests.ephemeral-storage must not exceed resources.limits.ephemeral-storage",
        ),
        (endpoint(auth={"secretName": "a..b"}), "spec.auth.secretName: a name holds lower-case letters"),
        (endpoint(auth={"secretName": "a\n"}), "spec.auth.secretName: a name holds lower-case letters"),
        (
            endpoint(networkPolicy={"egress": [{"cidr": "10.0.0.0"}]}),
            "spec.networkPolicy.egress[0].cidr: a cidr is an address and the length of its prefix",
        ),
        (endpoint(networkPolicy={"egress": [{"cidr": "10.1.2.3/8"}]}), "with no bits set beyond it"),
        (endpoint(networkPolicy={"egress": [{"cidr": "::ffff:10.0.0.0/104"}]}), "a cidr is an address"),
        (
            endpoint(resources={"requests": {"cpu": 10**20}}),
            "spec.resources.requests.cpu: 100000000000000000000 is greater than the maximum",
        ),
        (
            endpoint(scheduling={"tolerations": [{"operator": "Exists", "tolerationSeconds": -(10**20)}]}),
            "spec.scheduling.tolerations[0].tolerationSeconds: -100000000000000000000 is less than the minimum",
        ),
        (
            endpoint(rollout="Blue"),
            "spec.rollout: rollout must be RollingUpdate, RollingRecreate or Recreate",
        ),
        (endpoint(model="largee"), "spec.model: model must be tiny"),
        (endpoint(replicas=0), "set suspend: true"),
        (endpoint(model="base.en", defaults={"language": "yue"}), "ends in .en knows English only"),
        (endpoint(model="medium", defaults={"language": "yue"}), "large-v3 and turbo only"),
        (endpoint(model="demo", defaults={"language": "yue"}), "large-v3 and turbo only"),
        (endpoint(device="cpu", accelerator={}), "exclude each other"),
        (endpoint(autoscaling={"min": 5, "max": 2}), "must not be less than autoscaling.min"),
        (endpoint(host="a.example.com", additionalHosts=["b.example.com"] * 2), "non-unique"),
        (endpoint(scheduling={"env": [{"name": "A", "value": "1"}] * 2}), "two entries have the same name"),
        (
            endpoint(resources={"requests": {"memory": "25Gi"}, "limits": {"memory": "24000Mi"}}),
            "must not exceed resources.limits.memory",
        ),
        (
            endpoint(scheduling={"podLabels": {"a": "-"}}),
            "spec.scheduling.podLabels.a: the value of a label holds letters",
        ),
    ],
)
def test_what_the_api_server_refuses_is_said(resource: dict[str, Any], words: str) -> None:
    (complaint,) = crd_schema.complaints(resource)
    assert words in complaint


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"replicas": None},
        {"rollout": None, "resources": {"requests": None}, "ingress": None},
        {"autoscaling": {"max": 2}, "replicas": 1},
        {"networkPolicy": {"egress": [{"cidr": "::/0", "ports": [{"port": 443}]}, {"cidr": "10.0.0.0/8"}]}},
        {"defaults": {"language": "yue"}},
        {"model": "turbo", "defaults": {"language": "yue"}},
        {"model": "medium", "defaults": {"language": "su"}},
        {
            "model": "/models/own.pt",
            "modelVolume": {"persistentVolumeClaim": {"claimName": "models"}},
            "defaults": {"language": "yue"},
        },
        {
            "resources": {
                "requests": {"cpu": 1, "memory": "1Gi"},
                "limits": {"cpu": "1500m", "memory": "1024Mi"},
            }
        },
        {"host": "a.example.com", "ingress": {"annotations": {"x.example.com/y": "z"}}},
        {"host": "a.example.com", "ingress": {"class": "traefik", "reserveStaticIP": False}},
    ],
)
def test_what_it_takes_is_let_through(spec: dict[str, Any]) -> None:
    assert crd_schema.complaints(endpoint(**spec)) == []


def test_what_the_rules_do_not_read_is_no_matter() -> None:
    """kubectl reads a date as the text it is, and an API server takes any number in an annotation that is one."""
    annotations = {"released": date(2026, 1, 2), "build": 10**22}
    resource = endpoint(model="base")
    resource["metadata"]["annotations"] = annotations
    assert crd_schema.complaints(resource) == []


def optional(at: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each field that may be absent, under its path."""
    for name, below in at.get("properties", {}).items():
        if name not in at.get("required", ()):
            yield f"{path}.{name}", below
        yield from optional(below, f"{path}.{name}")
        yield from optional(below.get("items", {}), f"{path}.{name}[]")


def test_what_may_be_absent_may_be_null() -> None:
    """Server-side apply passes on the nulls of a file, as Flux and Helm send them; where there is a default, they are dropped."""
    found = dict(optional(crd_schema.schema()["properties"]["spec"], "spec"))
    assert len(found) > 60
    lacking = {path for path, field in found.items() if not field.get("nullable") and "default" not in field}
    told = {path for path in found if path.endswith((".count", ".nvidia.com/gpu"))}
    assert lacking - told == set()
    assert not [path for path, field in found.items() if "enum" in field]  # which takes no null


def test_a_complaint_about_much_is_short() -> None:
    (complaint,) = crd_schema.complaints(endpoint(limits="x" * 10_000))
    assert len(complaint) == LONGEST
    assert complaint.startswith("spec.limits: ")
    assert complaint.endswith("is not of type 'object'")
