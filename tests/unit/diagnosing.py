"""What the tests of doctor's checks are written in: what was read of a cluster, and what is found in it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from whisper_operator.doctor.examination import Report, judge
from whisper_operator.doctor.facts import Answer, Facts, File, Installation
from whisper_operator.doctor.finding import Finding, Gap
from whisper_operator.doctor.views import TOLD_FROM
from whisper_operator.kube.kinds import (
    CHILDREN,
    DEPLOYMENT,
    ENDPOINT,
    GROUP,
    INGRESS,
    MANAGED_CERTIFICATE,
    SERVICE,
    Kind,
)
from whisper_operator.offline import crd_schema
from whisper_operator.policy.rules import Policy

from tests.unit.making import SETTINGS, Body

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EARLIER = "2026-03-01T11:00:00Z"
HOST, ADDRESS = "whisper.example.com", "203.0.113.10"
FORBIDDEN = Gap("list things in the whole cluster", "")


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Body:
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1}


def raw(name: str, namespace: str = "asr", *, uid: str = "", **fields: Any) -> Body:
    """An object as the API returns it; metadata is added to."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"u-{namespace}-{name}",
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": EARLIER,
        **fields.pop("metadata", {}),
    }
    return {"metadata": metadata, **fields}


def endpoint(
    name: str = "whisper", *, conditions: tuple[Body, ...] = (), generation: int = 1, **spec: Any
) -> Body:
    status = {"observedGeneration": 1, "conditions": list(conditions)} if conditions else {}
    return raw(name, uid=f"u-{name}", metadata={"generation": generation}, spec=spec, status=status)


def child(kind: Kind, owner: str = "whisper", name: str = "", **fields: Any) -> Body:
    """One of an endpoint's."""
    reference = {"kind": ENDPOINT.name, "name": owner, "uid": f"u-{owner}", "controller": True}
    labels = {f"{GROUP}/endpoint": owner}
    metadata = {"ownerReferences": [reference], "labels": labels, **fields.pop("metadata", {})}
    return raw(name or owner, uid=f"{kind.plural}-{name or owner}", metadata=metadata, **fields)


def deployment(
    namespace: str = "whisper-operator", *, available: int = 2, image: str = "x:1", **spec: Any
) -> Body:
    container = {
        "name": "operator",
        "image": image,
        "args": [
            "run",
            "--config",
            "/etc/whisper-operator/config.yaml",
            "--policy=/etc/whisper-operator/policy.yaml",
        ],
    }
    pod = {"serviceAccountName": "whisper-operator", "containers": [container]}
    whole = {"replicas": 2, "template": {"spec": pod}, **spec}
    return raw("whisper-operator", namespace, spec=whole, status={"availableReplicas": available})


def installation(**fields: Any) -> Installation:
    """With nothing wrong, but for these fields."""
    well: dict[str, Any] = {
        "deployment": deployment(),
        "pods": (),
        "log": "",
        "config": File("config.yaml", "whisper-operator-x", ""),
        "policy_file": None,
        "settings": SETTINGS,
        "policy": Policy(),
        "faults": {},
        "lacking": (),
    }
    return Installation(**{**well, **fields})


def crd(**fields: Any) -> Body:
    """As this version of the operator brings it, but for these fields."""
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": crd_schema.schema()},
    }
    status = {"conditions": [condition("Established", "True")], "storedVersions": ["v1alpha1"]}
    return raw(
        "whisperendpoints.whisper-operator.io",
        "",
        **{"spec": {"versions": [version]}, "status": status, **fields},
    )


def facts(*endpoints: Body, objects: Mapping[Kind, Any] | None = None, **fields: Any) -> Facts:
    """With nothing wrong, but for these fields."""
    kinds = dict.fromkeys((*CHILDREN, *TOLD_FROM), ())
    well: dict[str, Any] = {
        "now": NOW,
        "name": None,
        "crd": crd(),
        "endpoints": endpoints,
        "objects": {**kinds, **(objects or {})},
        "missing": frozenset(),
        "installations": (installation(),),
        "everywhere": True,
        "nodes": (),
        "api_services": (),
        "quotas": (),
        "leases": (),
    }
    return Facts(**{**well, **fields})


def judged(given: Facts, records: Mapping[str, Answer] | None = None) -> Report:
    return judge(given, lambda names: {name: (records or {}).get(name, Answer()) for name in names})


def found(given: Facts, records: Mapping[str, Answer] | None = None) -> dict[str, Finding]:
    """By code; what is found twice fails."""
    findings = judged(given, records).findings
    assert len({each.code for each in findings}) == len(findings), findings
    return {each.code: each for each in findings}


def well(given: Facts, records: Mapping[str, Answer] | None = None) -> str:
    return "\n".join(each.words for each in judged(given, records).well)


READY = condition("Ready", "True", "Ready", "The current spec is served.")
CPU: Body = {"device": "cpu"}
T4 = {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}


def served(
    *, address: str = ADDRESS, ingress_class: str = "gce", hosts: tuple[str, ...] = (HOST,)
) -> dict[Kind, Any]:
    """The children of an endpoint that serves on a host."""
    entry = {"ip": address} if address.replace(".", "").isdigit() or ":" in address else {"hostname": address}
    ingress = child(
        INGRESS,
        metadata={"annotations": {"kubernetes.io/ingress.class": ingress_class}},
        spec={"rules": [{"host": host} for host in hosts]},
        status={"loadBalancer": {"ingress": [entry]}},
    )
    certificate = child(
        MANAGED_CERTIFICATE,
        name="whisper-x",
        spec={"domains": [HOST]},
        status={"certificateStatus": "Active"},
    )
    return {
        DEPLOYMENT: (deployed(),),
        SERVICE: (child(SERVICE),),
        INGRESS: (ingress,),
        MANAGED_CERTIFICATE: (certificate,),
    }


def deployed(*, wanted: int = 1, there: int | None = None, owner: str = "whisper", **spec: Any) -> Body:
    count = wanted if there is None else there
    status = {
        "replicas": count,
        "updatedReplicas": count,
        "availableReplicas": count,
        "observedGeneration": 1,
    }
    takes = {"limits": {"nvidia.com/gpu": "1", "memory": "24Gi"}, "requests": {"cpu": "4", "memory": "24Gi"}}
    template = {"spec": {"containers": [{"name": "server", "resources": takes}]}}
    return child(DEPLOYMENT, owner, spec={"replicas": wanted, "template": template, **spec}, status=status)


def public(**spec: Any) -> Body:
    return endpoint(conditions=(READY,), host=HOST, **CPU, **spec)


def on_gpu(**spec: Any) -> Body:
    return endpoint(conditions=(READY,), **spec)


RUNS: dict[Kind, Any] = {DEPLOYMENT: (deployed(),), SERVICE: (child(SERVICE),)}


NODE = raw(
    "n1",
    "",
    metadata={"labels": T4},
    spec={},
    status={"conditions": [condition("Ready", "True")], "allocatable": {"nvidia.com/gpu": "1"}},
)
