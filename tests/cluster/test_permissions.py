"""The installed permissions are just what the operator uses: each is used here, and none is missing."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster
from devcluster.installation import USER, Operator, install, wait_for_kinds
from tests.cluster.support import endpoint, exists, until, wait_for_condition

ROOT = Path(__file__).resolve().parents[2]
FULL: dict[str, Any] = {
    "host": "whisper.example.com",
    "staticIPName": "address",
    "ingress": {"httpsRedirect": True, "reserveStaticIP": True},
    "autoscaling": {"min": 2, "max": 3},
}

SOMEBODYS = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {
        "name": "whisper-operator-leader",
        "namespace": "default",
        "labels": {"app.kubernetes.io/name": "whisper-operator"},
        "annotations": {"whisper-operator.io/looks-after": "*"},
    },
    "spec": {"holderIdentity": "somebody"},
}
"""A Lease that looks like another installation's."""

Permission = tuple[str, str]
"""Verb, and resource with its group before it as the audit log writes it."""


def granted() -> set[Permission]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "base" / "rbac.yaml").read_text())
    found = set()
    for document in documents:
        for rule in document.get("rules", []):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    name = f"{group}/{resource}" if group else resource
                    found |= {(verb, name) for verb in rule["verbs"]}
    return found


def used(cluster: Cluster) -> set[Permission]:
    """By what was asked and granted. A server-side apply that makes an object takes create beside patch, and an owner reference
    that blocks the owner's deletion takes update of its finalizers."""
    found = set()
    for event in cluster.audit(user=USER):
        if not event.resource:
            continue  # discovery, which everybody may ask for
        if event.code in (200, 201, 404) or event.verb == "watch":  # not found is an answer, too
            found.add((event.verb, event.resource))
        if event.verb == "patch" and event.code == 201:
            found |= {
                ("create", event.resource),
                ("update", "whisper-operator.io/whisperendpoints/finalizers"),
            }
    return found


def stray(child: dict[str, Any]) -> dict[str, Any]:
    """A child of a name that is none of the endpoint's: left by an earlier version, say."""
    metadata = {key: child["metadata"][key] for key in ("namespace", "labels", "ownerReferences")}
    spec = {key: value for key, value in child["spec"].items() if not key.startswith("clusterIP")}
    kept = {key: child[key] for key in ("apiVersion", "kind")}
    return {**kept, "metadata": {**metadata, "name": "stray"}, "spec": spec}


def qualified(kind: str) -> str:
    """As kubectl names it."""
    group, _, plural = kind.rpartition("/")
    return f"{plural}.{group}" if group else plural


def leave_a_stray(cluster: Cluster, kind: str) -> None:
    """Copy the endpoint's child of that kind, if it goes with the endpoint."""

    def found() -> list[dict[str, Any]]:
        label = "whisper-operator.io/endpoint=whisper"
        items: list[dict[str, Any]] = cluster.get(qualified(kind), "-n", "default", "-l", label)["items"]
        return items

    child = until(found, f"a child of {kind}")[0]
    if child["metadata"].get("ownerReferences"):
        cluster.kubectl("create", "-f", "-", input=json.dumps(stray(child)))


def take_a_label(cluster: Cluster, kind: str) -> None:
    """Change something by hand on a child of that kind, and wait until it is put right."""
    label, path = "app.kubernetes.io/name", "jsonpath={.items[*].metadata.labels.app\\.kubernetes\\.io/name}"
    chosen = (qualified(kind), "-n", "default", "-l", "whisper-operator.io/endpoint=whisper")
    cluster.kubectl("label", *chosen, f"{label}=taken", "--overwrite")
    until(lambda: "taken" not in cluster.kubectl("get", *chosen, "-o", path), f"the label of {kind} back")


@pytest.mark.timeout(600)
def test_every_permission_is_used_and_none_is_missing() -> None:
    with Cluster.start() as cluster:
        cluster.kubectl("apply", "-f", str(ROOT / "tests" / "cluster" / "crds"))
        wait_for_kinds(cluster)
        install(cluster)
        with Operator(cluster) as operator:
            operator.wait_until_working()
            cluster.apply(endpoint("whisper", "default", **FULL), SOMEBODYS)
            wait_for_condition(cluster, "default", "whisper", "CertificateReady")
            kinds = sorted({name for verb, name in granted() if verb == "delete"})
            assert len(kinds) > 10
            for kind in kinds:
                leave_a_stray(cluster, kind)
            until(
                lambda: not any(exists(cluster, "default", qualified(kind), "stray") for kind in kinds),
                "no stray is left",
            )
            for kind in kinds:
                take_a_label(cluster, kind)
            cluster.apply(endpoint("whisper", "default", suspend=True, accelerator={"type": "abacus"}))
            wait_for_condition(cluster, "default", "whisper", "Ready", "False", "UnknownAccelerator")
            cluster.apply(endpoint("whisper", "default", replicas=1))
            wait_for_condition(cluster, "default", "whisper")
            until(
                lambda: not exists(cluster, "default", "computeaddress", "address"),
                "the address's object gone",
            )
            assert used(cluster) - granted() == set()
            assert granted() - used(cluster) == set(), "granted for nothing"
            refused = [event for event in cluster.audit(user=USER) if event.code == 403]
            assert refused == []
