"""Identities, permissions, and the count of who asked the API server for what."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devcluster import Cluster, DevclusterError


def as_user(cluster: Cluster, kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(cluster.binaries / "kubectl"), f"--kubeconfig={kubeconfig}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_service_account_has_its_own_rights_and_its_own_count(cluster: Cluster, namespace: str) -> None:
    since = datetime.now(UTC)
    user = f"system:serviceaccount:{namespace}:reader"
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    cluster.kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=pods", "-n", namespace)
    cluster.kubectl(
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        f"--serviceaccount={namespace}:reader",
        "-n",
        namespace,
    )
    kubeconfig = cluster.kubeconfig_for(user)
    assert kubeconfig.stat().st_mode & 0o077 == 0, "it holds a token"

    assert as_user(cluster, kubeconfig, "get", "pods", "-n", namespace).returncode == 0
    watch = as_user(
        cluster, kubeconfig, "get", "--raw", f"/api/v1/namespaces/{namespace}/pods?watch=1&timeoutSeconds=1"
    )
    assert watch.returncode == 0
    refused = as_user(cluster, kubeconfig, "delete", "pod", "none", "-n", namespace)
    assert "is forbidden" in refused.stderr

    pods = [event for event in cluster.audit(user=user, since=since) if event.resource == "pods"]
    assert [(event.verb, event.code) for event in pods] == [("list", 200), ("watch", 200), ("delete", 403)]
    assert {(event.namespace, event.user) for event in pods} == {(namespace, user)}
    assert pods[0].time > since
    assert pods[0].user_agent.startswith("kubectl/")
    assert cluster.audit(user=user, verbs={"delete"}) == pods[2:]
    assert cluster.audit(user=user, since=datetime.now(UTC)) == []


def test_writes_are_named_with_group_and_subresource(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "deployment", "d", "--image=d", "-n", namespace)
    cluster.kubectl("scale", "deployment", "d", "--replicas=2", "-n", namespace)
    mine = [
        event for event in cluster.audit(verbs=("create", "patch", "update")) if event.namespace == namespace
    ]
    by_kubectl = [
        (event.verb, event.resource, event.name, event.code)
        for event in mine
        if event.user_agent.startswith("kubectl") and event.resource.startswith("apps/deployments")
    ]
    assert by_kubectl == [
        ("create", "apps/deployments", "d", 201),
        ("patch", "apps/deployments/scale", "d", 200),
    ]


def test_an_owner_that_may_not_be_finalized_can_not_block_its_deletion(
    cluster: Cluster, namespace: str
) -> None:
    """The admission plugin OwnerReferencesPermissionEnforcement, which managed clusters may have on."""
    user = f"system:serviceaccount:{namespace}:writer"
    cluster.kubectl("create", "serviceaccount", "writer", "-n", namespace)
    cluster.kubectl("create", "role", "writer", "--verb=*", "--resource=configmaps", "-n", namespace)
    cluster.kubectl(
        "create",
        "rolebinding",
        "writer",
        "--role=writer",
        f"--serviceaccount={namespace}:writer",
        "-n",
        namespace,
    )
    cluster.kubectl("create", "deployment", "owner", "--image=d", "--replicas=0", "-n", namespace)
    cluster.kubectl("create", "configmap", "owned", "-n", namespace)
    uid = cluster.get("deployment", "owner", "-n", namespace)["metadata"]["uid"]
    owner = f'{{"apiVersion":"apps/v1","kind":"Deployment","name":"owner","uid":"{uid}","blockOwnerDeletion":true}}'
    patch = f'{{"metadata":{{"ownerReferences":[{owner}]}}}}'
    kubeconfig = cluster.kubeconfig_for(user)
    refused = as_user(
        cluster, kubeconfig, "patch", "configmap", "owned", "-n", namespace, "--type=merge", "-p", patch
    )
    assert "cannot set blockOwnerDeletion" in refused.stderr


@pytest.mark.parametrize(
    "user", ["admin", "system:serviceaccount:default", "system:node:gke-devcluster-t4-0"]
)
def test_only_service_accounts_get_a_kubeconfig(cluster: Cluster, user: str) -> None:
    with pytest.raises(DevclusterError, match="system:serviceaccount:NAMESPACE:NAME"):
        cluster.kubeconfig_for(user)


def test_kubectl_errors_are_passed_on(cluster: Cluster) -> None:
    with pytest.raises(DevclusterError, match=r'kubectl get pod none: .*pods "none" not found'):
        cluster.kubectl("get", "pod", "none")
