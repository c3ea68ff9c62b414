"""Objects that are there before their endpoint: what the operator made once is taken up again, anything else is never touched."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from kubernetes.aio import client, config
from whisper_operator.apply import plan
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Conflict
from whisper_operator.kube.kinds import BACKEND_CONFIG, NETWORK_POLICY, SERVICE, Kind
from whisper_operator.manifests import Manifest

from devcluster import Cluster
from devcluster.installation import USER, Operator
from tests.cluster.support import (
    CERTIFICATE,
    EXAMPLES,
    children,
    condition,
    endpoint,
    stopped,
    until,
    wait_for_condition,
)

Objects = dict[str, dict[str, Any]]


def uids(found: Objects) -> dict[str, str]:
    return {name: each["metadata"]["uid"] for name, each in found.items()}


def owners(found: Objects) -> set[str]:
    return {owner["uid"] for each in found.values() for owner in each["metadata"].get("ownerReferences", ())}


def orphan_all(cluster: Cluster, namespace: str, names: Iterable[str]) -> None:
    """By hand: on a young cluster, Kubernetes does not know all kinds yet that it would have to orphan."""
    patch = '[{"op": "remove", "path": "/metadata/ownerReferences"}]'
    for name in names:
        cluster.kubectl("patch", name, "-n", namespace, "--type=json", "-p", patch)
    cluster.kubectl("delete", "wep", "whisper", "-n", namespace)


def test_what_a_deletion_has_orphaned_is_taken_up_again(
    settled: Cluster, operator: Operator, namespace: str
) -> None:
    """The certificates among it, which GKE would take an hour to issue anew."""
    before = children(settled, namespace)
    with stopped(operator):
        orphan_all(settled, namespace, before)
    settled.kubectl("apply", "-n", namespace, "-f", str(EXAMPLES / "minimal.yaml"))
    resource = wait_for_condition(settled, namespace, "whisper")
    after = children(settled, namespace)
    assert CERTIFICATE in after
    assert uids(after) == uids(before)
    assert owners(after) == {resource["metadata"]["uid"]}


def test_what_a_deletion_has_orphaned_and_the_new_spec_does_not_want_goes(
    settled: Cluster, operator: Operator, namespace: str
) -> None:
    before = children(settled, namespace)
    with stopped(operator):
        orphan_all(settled, namespace, before)
    settled.apply(endpoint("whisper", namespace, device="cpu"))
    resource = wait_for_condition(settled, namespace, "whisper")
    public = {CERTIFICATE, "Ingress/whisper"}
    until(lambda: not public & children(settled, namespace).keys(), "what only a host needs gone")
    after = children(settled, namespace)
    assert owners(after) == {resource["metadata"]["uid"]}


def test_what_a_backup_has_restored_is_taken_up_again(
    settled: Cluster, operator: Operator, namespace: str
) -> None:
    """As a tool writes it back: labels and annotations and the spec, of no owner, and all of it its own."""
    saved = children(settled, namespace)
    with stopped(operator):
        settled.kubectl("delete", "wep", "whisper", "-n", namespace)
        until(lambda: not children(settled, namespace), "no children")
        for each in saved.values():
            metadata = {key: each["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
            spec = {key: value for key, value in each["spec"].items() if not key.startswith("clusterIP")}
            kept = {
                "apiVersion": each["apiVersion"],
                "kind": each["kind"],
                "metadata": metadata,
                "spec": spec,
            }
            settled.kubectl("create", "-f", "-", input=json.dumps(kept))
        restored = uids(children(settled, namespace))
    settled.kubectl("apply", "-n", namespace, "-f", str(EXAMPLES / "minimal.yaml"))
    resource = wait_for_condition(settled, namespace, "whisper")
    after = children(settled, namespace)
    assert uids(after) == restored
    assert owners(after) == {resource["metadata"]["uid"]}
    assert operator.complaints() == []


HASH = {"whisper-operator.io/applied-hash": "0"}
ALIKE: dict[str, tuple[str, dict[str, str]]] = {
    "of another endpoint": ("other", HASH),
    "of another owner": ("whisper", HASH),
    "with the labels alone": ("whisper", {}),
}
"""The endpoint by its label, and its annotations."""


@pytest.mark.parametrize("what", ALIKE)
def test_what_only_looks_like_the_operator_s_is_not_taken(
    installed: Cluster, operator: Operator, namespace: str, what: str
) -> None:
    named, annotations = ALIKE[what]
    labels = {"app.kubernetes.io/managed-by": "whisper-operator", "whisper-operator.io/endpoint": named}
    metadata: dict[str, Any] = {"name": "whisper", "namespace": namespace}
    if what == "of another owner":
        owner = {"apiVersion": "v1", "kind": "ConfigMap"}
        installed.apply({**owner, "metadata": metadata})
        uid = installed.get("configmap", "whisper", "-n", namespace)["metadata"]["uid"]
        metadata["ownerReferences"] = [{**owner, "name": "whisper", "uid": uid, "controller": True}]
    metadata |= {"labels": labels, "annotations": annotations}
    installed.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 1}]}}
    )
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    resource = wait_for_condition(installed, namespace, "whisper", "Stalled", "True", "NameConflict")
    assert "services whisper" in condition(resource, "Ready")["message"]
    assert installed.get("service", "whisper", "-n", namespace)["spec"]["ports"][0]["port"] == 1


MADE: list[tuple[Kind, dict[str, Any]]] = [
    (SERVICE, {"ports": [{"port": 8000, "protocol": "TCP", "name": "http"}]}),
    (NETWORK_POLICY, {"podSelector": {}, "policyTypes": ["Ingress"]}),
    (BACKEND_CONFIG, {"timeoutSec": 660}),
]


@pytest.mark.parametrize(("kind", "spec"), MADE, ids=[kind.name for kind, _ in MADE])
async def test_what_is_to_be_made_can_not_merge_into_what_is_there(
    installed: Cluster, namespace: str, kind: Kind, spec: dict[str, Any]
) -> None:
    """Even where no field differs, and no list or look has shown the object yet."""
    metadata = {"name": "whisper", "namespace": namespace}
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec}
    wanted = Manifest(kind, namespace, "whisper", {**body, "metadata": {**metadata, "labels": {"a": "b"}}})
    configuration = client.Configuration()
    path = str(installed.kubeconfig_for(USER))
    await config.load_kube_config(config_file=path, client_configuration=configuration)
    async with client.ApiClient(configuration) as connection:
        api = Api(connection)
        made = await api.apply(kind, plan.applied(wanted), force=False)
        await api.delete(kind, namespace, "whisper", made["metadata"]["uid"])
        installed.apply(body)
        before = installed.get(kind.qualified, "whisper", "-n", namespace, "--show-managed-fields")
        for force in (False, True):
            with pytest.raises(Conflict):
                await api.apply(kind, plan.applied(wanted), force=force)
    assert installed.get(kind.qualified, "whisper", "-n", namespace, "--show-managed-fields") == before
