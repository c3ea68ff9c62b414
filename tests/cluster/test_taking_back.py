"""Whatever is done to children by hand: what is the operator's comes back, what others add stays, and nothing wedges."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from devcluster import Cluster
from devcluster.installation import Operator
from tests.cluster.support import (
    HOST,
    children,
    condition,
    endpoint,
    live,
    patch,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)

pytestmark = pytest.mark.usefixtures("nothing_to_complain_about")

Edit = Callable[[Cluster, str], object]


def spec_of(cluster: Cluster, namespace: str, child: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get(*child.split("/"), "-n", namespace)["spec"]
    return found


def changes(child: str, *operations: tuple[str, str, Any]) -> Edit:
    """A JSON patch."""
    patches = [{"op": verb, "path": path, "value": value} for verb, path, value in operations]
    return lambda cluster, namespace: cluster.kubectl(
        "patch", *child.split("/"), "-n", namespace, "--type=json", "-p", json.dumps(patches)
    )


def container(*operations: tuple[str, str, Any]) -> Edit:
    path = "/spec/template/spec/containers/0"
    return changes(
        "deployment/whisper", *((verb, f"{path}{below}", value) for verb, below, value in operations)
    )


def pod(*operations: tuple[str, str, Any]) -> Edit:
    path = "/spec/template/spec"
    return changes(
        "deployment/whisper", *((verb, f"{path}{below}", value) for verb, below, value in operations)
    )


def kubectl(*arguments: str) -> Edit:
    return lambda cluster, namespace: cluster.kubectl(*arguments, "-n", namespace)


MEMORY = {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 1}}
PORT = {"port": 8000}
SECRET = {"name": "api-keys", "secret": {"secretName": "gone"}}
MOUNT = {"name": "api-keys", "mountPath": "/elsewhere"}
CIDR = [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]
RESOURCE = {"resource": {"apiGroup": "k8s.example.com", "kind": "Bucket", "name": "b"}}
PATHS = [{"path": "/", "pathType": "Prefix", "backend": RESOURCE}]

EDITS: dict[str, tuple[str, Edit]] = {
    "a CPU limit below the request": (
        "deployment/whisper",
        kubectl("set", "resources", "deploy/whisper", "-c", "server", "--requests=cpu=1", "--limits=cpu=2"),
    ),
    "a variable's source": (
        "deployment/whisper",
        container(("replace", "/env/0", {"name": "WHISPER_MODEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})),
    ),
    "a volume's source": ("deployment/whisper", pod(("replace", "/volumes/0", {"name": "tmp", "hostPath": {"path": "/"}}))),
    "a volume of a former spec": (
        "deployment/whisper",
        pod(("add", "/volumes/-", SECRET), ("add", "/containers/0/volumeMounts/-", MOUNT)),
    ),
    "a mount elsewhere in the volume": (
        "deployment/whisper",
        container(("replace", "/volumeMounts/0", {"name": "tmp", "mountPath": "/tmp", "subPathExpr": "a"})),
    ),
    "a probe's handler": ("deployment/whisper", container(("replace", "/startupProbe", {"tcpSocket": PORT}))),
    "another probe's": ("deployment/whisper", container(("replace", "/livenessProbe", {"grpc": PORT}))),
    "the last one's": ("deployment/whisper", container(("replace", "/readinessProbe", {"exec": {"command": ["true"]}}))),
    "what is done before the end": (
        "deployment/whisper",
        container(("replace", "/lifecycle/preStop", {"httpGet": {"path": "/", "port": 1}})),
    ),
    "a container's port": (
        "deployment/whisper",
        container(("replace", "/ports/0", {"name": "http", "containerPort": 8001})),
    ),
    "the strategy": (
        "deployment/whisper",
        changes("deployment/whisper", ("replace", "/spec/strategy", {"type": "RollingUpdate"})),
    ),
    "the tolerations": ("deployment/whisper", pod(("replace", "/tolerations", []))),
    "a budget the other way round": (
        "poddisruptionbudget/whisper",
        changes("poddisruptionbudget/whisper", ("remove", "/spec/maxUnavailable", None), ("add", "/spec/minAvailable", 1)),
    ),
    "a load balancer of its own": (
        "service/whisper",
        changes(
            "service/whisper",
            ("replace", "/spec/type", "LoadBalancer"),
            ("add", "/spec/loadBalancerSourceRanges", ["10.0.0.0/8"]),
            ("add", "/spec/externalTrafficPolicy", "Local"),
        ),
    ),
    "an external name": (
        "service/whisper",
        changes("service/whisper", ("replace", "/spec/type", "NodePort"), ("add", "/spec/externalName", "a.example.com")),
    ),
    "a Service's port": (
        "service/whisper",
        changes("service/whisper", ("replace", "/spec/ports/0", {"name": "http", "port": 8001, "targetPort": "http"})),
    ),
    "a backend that is no Service": (
        "ingress/whisper",
        changes("ingress/whisper", ("replace", "/spec/rules/0/http/paths", PATHS)),
    ),
    "a certificate of a Secret": ("ingress/whisper", changes("ingress/whisper", ("add", "/spec/tls", [{"secretName": "nope"}]))),
    "two classes": ("ingress/whisper", changes("ingress/whisper", ("add", "/spec/ingressClassName", "nginx"))),
    "who may come in": ("networkpolicy/whisper", changes("networkpolicy/whisper", ("replace", "/spec/ingress", CIDR))),
    "the domain": (
        "managedcertificate/whisper-3ebc8463",
        changes("managedcertificate/whisper-3ebc8463", ("replace", "/spec/domains", ["b.example.com"])),
    ),
    "a limit where others scale": (
        "deployment/scaled",
        kubectl("set", "resources", "deploy/scaled", "-c", "server", "--requests=cpu=1", "--limits=cpu=2"),
    ),
    "what scales by what": (
        "hpa/scaled",
        changes(
            "hpa/scaled",
            ("replace", "/spec/maxReplicas", 9),
            ("replace", "/spec/minReplicas", 9),
            ("replace", "/spec/metrics", [{"type": "Resource", "resource": MEMORY}]),
        ),
    ),
}  # fmt: skip


@pytest.mark.timeout(600)
def test_a_hand_edit_is_taken_back_where_the_api_allows_one_of_several_fields(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """One after the other on the same endpoints: each leaves them as they were, and free for the next change of the spec."""
    asked: dict[str, Any] = {"host": HOST, "replicas": 2, "rollout": "Recreate"}
    installed.apply(
        endpoint("whisper", namespace, **asked),
        endpoint("scaled", namespace, device="cpu", autoscaling={"min": 1, "max": 2}),
    )
    wait_for_condition(installed, namespace, "whisper")
    until(lambda: "HorizontalPodAutoscaler/scaled" in children(installed, namespace), "the autoscaler")
    for what, (child, edit) in EDITS.items():
        before = spec_of(installed, namespace, child)
        assert "no change" not in str(edit(installed, namespace)), what
        until(
            lambda child=child, before=before: spec_of(installed, namespace, child) == before,  # type: ignore[misc]
            f"{what} as before",
        )
    wait_for_condition(installed, namespace, "whisper")
    patch(installed, namespace, suspend=True)
    until(lambda: spec_of(installed, namespace, "deployment/whisper")["replicas"] == 0, "no replicas")


SIDECAR = {"name": "proxy", "image": "proxy", "volumeMounts": [{"name": "sockets", "mountPath": "/s"}]}


def test_a_repair_leaves_what_others_added(settled: Cluster, namespace: str) -> None:
    """Beside an atomic list and an entry that was renamed, which once replaced all lists."""
    label, restart = "argocd.argoproj.io/instance", ("rollout", "restart", "deploy/whisper")
    settled.kubectl("label", "deploy", "whisper", "-n", namespace, f"{label}=app")
    settled.kubectl(*restart, "-n", namespace)
    pod(("add", "/containers/-", SIDECAR), ("add", "/volumes/-", {"name": "sockets", "emptyDir": {}}))(
        settled, namespace
    )
    container(("add", "/env/-", {"name": "HTTPS_PROXY", "value": "http://proxy"}))(settled, namespace)
    before = spec_of(settled, namespace, "deployment/whisper")
    assert [each["name"] for each in before["template"]["spec"]["containers"]] == ["server", "proxy"]
    pod(("replace", "/tolerations", []))(settled, namespace)
    container(("replace", "/ports/0", {"name": "http", "containerPort": 8001}))(settled, namespace)
    until(lambda: spec_of(settled, namespace, "deployment/whisper") == before, "all as before")
    found = settled.get("deployment", "whisper", "-n", namespace)["metadata"]["labels"]
    assert found[label] == "app"
    assert "kubectl.kubernetes.io/restartedAt" in before["template"]["metadata"]["annotations"]


def test_what_comes_back_by_a_rollback_goes_again(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """A spec that no longer names keys or a volume is not served with them, whoever brought them back."""
    dropped = {"auth": {"secretName": "keys"}, "modelVolume": {"emptyDir": {"sizeLimit": "8Gi"}}}
    installed.apply(endpoint("whisper", namespace, device="cpu", **dropped))
    wait_for_condition(installed, namespace, "whisper")
    with_keys = spec_of(installed, namespace, "deployment/whisper")["template"]["spec"]
    assert with_keys["initContainers"]
    patch(installed, namespace, auth=None, modelVolume=None)
    wait_for_condition(installed, namespace, "whisper")
    before = spec_of(installed, namespace, "deployment/whisper")
    assert "initContainers" not in before["template"]["spec"]
    pod(("add", "/containers/-", {"name": "sidecar", "image": "i"}))(installed, namespace)
    installed.kubectl("rollout", "undo", "deploy/whisper", "-n", namespace, "--to-revision=1")
    until(lambda: spec_of(installed, namespace, "deployment/whisper") == before, "the spec as it is now")
    wait_for_condition(installed, namespace, "whisper")
    start = wait_until_quiet(installed)
    time.sleep(3)
    assert writes(installed, start, namespace) == []


def test_what_others_mount_of_a_volume_goes_with_it(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """A sidecar that reads the weights would keep the API server from taking any spec without them."""
    volume = {"emptyDir": {"sizeLimit": "8Gi"}}
    installed.apply(endpoint("whisper", namespace, device="cpu", modelVolume=volume))
    wait_for_condition(installed, namespace, "whisper")
    reader = {"name": "reader", "image": "i", "volumeMounts": [{"name": "models", "mountPath": "/m"}]}
    pod(("add", "/containers/-", reader))(installed, namespace)
    patch(installed, namespace, modelVolume=None)
    wait_for_condition(installed, namespace, "whisper")
    found = spec_of(installed, namespace, "deployment/whisper")["template"]["spec"]
    assert [each["name"] for each in found["volumes"]] == ["tmp"]
    assert [each["name"] for each in found["containers"]] == ["server", "reader"]


@pytest.mark.timeout(240)
def test_another_s_scaling_is_taken_back_ever_more_slowly_and_told(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """An autoscaler of the user's own, at its worst; a change of the spec is still made at once."""
    installed.apply(endpoint("whisper", namespace, device="cpu"))
    wait_for_condition(installed, namespace, "whisper")
    start, resource = wait_until_quiet(installed), dict[str, Any]()

    def told() -> bool:
        nonlocal resource
        if spec_of(installed, namespace, "deployment/whisper")["replicas"] == 1:
            installed.kubectl("scale", "deploy/whisper", "-n", namespace, "--replicas=2")
        resource = live(installed, namespace, "whisper")
        return condition(resource, "Ready").get("reason") == "FieldContested"

    until(told, "the fight is told of", ceiling=120)
    made = [each for each in writes(installed, start, namespace) if each.resource == "apps/deployments"]
    # It is told once it is held back, after three, and some are made until it is told.
    assert 3 <= len(made) <= 6
    assert (
        "spec.replicas of Deployment whisper is set by kubectl (scale)"
        in condition(resource, "Ready")["message"]
    )
    patch(installed, namespace, limits={"maxQueue": 7})
    until(
        lambda: spec_of(installed, namespace, "deployment/whisper")["replicas"] == 1, "the spec carried out"
    )
    repairs = [line["message"] for line in operator.log() if "Repaired Deployment whisper" in line["message"]]
    assert "spec.replicas (kubectl (scale))" in repairs[-1]


@pytest.mark.timeout(240)
def test_another_s_deletions_are_answered_ever_more_slowly_and_told(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    """Something that removes what it does not allow."""
    installed.apply(endpoint("whisper", namespace, device="cpu", replicas=2))
    wait_for_condition(installed, namespace, "whisper")
    start, resource = wait_until_quiet(installed), dict[str, Any]()

    def told() -> bool:
        nonlocal resource
        if "PodDisruptionBudget/whisper" in children(installed, namespace):
            installed.kubectl("delete", "pdb", "whisper", "-n", namespace)
        resource = live(installed, namespace, "whisper")
        return condition(resource, "Ready").get("reason") == "FieldContested"

    until(told, "the fight is told of", ceiling=120)
    made = [each for each in writes(installed, start, namespace) if "budget" in each.resource]
    # It is told once it is held back; the first of all counts, if that was a moment ago, and some are made until it is told.
    assert 2 <= len(made) <= 6
    assert "PodDisruptionBudget whisper is deleted" in condition(resource, "Ready")["message"]
    until(lambda: "PodDisruptionBudget/whisper" in children(installed, namespace), "it is back")


def test_each_step_is_in_the_log_with_the_endpoint_s_name(
    installed: Cluster, operator: Operator, namespace: str
) -> None:
    installed.apply(endpoint("whisper", namespace, device="cpu", host=HOST))
    wait_for_condition(installed, namespace, "whisper")
    kubectl("patch", "service", "whisper", "--type=merge", "-p", '{"spec":{"selector":{"a":"b"}}}')(
        installed, namespace
    )
    service = {"whisper-operator.io/endpoint": "whisper", "app.kubernetes.io/name": "whisper-server"}
    until(lambda: spec_of(installed, namespace, "service/whisper")["selector"] == service, "the selector")
    patch(installed, namespace, host=None)
    wait_for_condition(installed, namespace, "whisper")
    until(lambda: "Ingress/whisper" not in children(installed, namespace), "no Ingress")

    def said(words: str) -> bool:
        return any(
            line["message"].startswith(words) and (line["namespace"], line["name"]) == (namespace, "whisper")
            for line in operator.log()
        )

    for words in (
        "Created Deployment whisper",
        "Repaired Service whisper: took back spec.selector (kubectl-patch)",
        "Removed Ingress whisper, which is no longer wanted",
        "Ready: ",
    ):
        until(lambda words=words: said(words), words)  # type: ignore[misc]
