"""What the chart renders is what kustomize makes of deploy/, object by object."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from whisper_operator.config import parse

from devcluster import Cluster, build
from devcluster.installation import CRD
from release.chart import CHART, DEPLOY
from tests.ship.charts import (
    IMAGES,
    NAMESPACE,
    VALUES,
    HelmError,
    Objects,
    by_name,
    config,
    helm,
    render,
    without_hashes,
)

CHECKSUM = "checksum/config"
CONFIG_MAPS = ("whisper-operator", "whisper-operator-policy")


@pytest.fixture(scope="session")
def kustomized(cluster: Cluster) -> Callable[[str], Objects]:
    return lambda folder: by_name(cluster.kubectl("kustomize", str(DEPLOY / folder)))


def deployment(objects: Objects) -> dict[str, Any]:
    return objects["Deployment", NAMESPACE, "whisper-operator"]


def pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = deployment(objects)["spec"]["template"]["spec"]
    return spec


def checksum(objects: Objects) -> str:
    return str(deployment(objects)["spec"]["template"]["metadata"]["annotations"][CHECKSUM])


def test_each_overlay_has_its_values() -> None:
    assert set(VALUES) == {f"overlays/{path.name}" for path in (DEPLOY / "overlays").iterdir()}


@pytest.mark.parametrize("folder", VALUES)
def test_the_chart_is_the_overlay(folder: str, kustomized: Callable[[str], Objects]) -> None:
    ours, theirs = render(VALUES[folder]), without_hashes(kustomized(folder))
    # Helm makes the namespace itself, and keeps its own records there: it is no part of a chart.
    assert theirs.pop(("Namespace", "", NAMESPACE))
    # The CRD is applied beside kustomize's.
    crd = ours.pop(("CustomResourceDefinition", "", "whisperendpoints.whisper-operator.io"))
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert crd == yaml.safe_load(CRD.read_text())
    assert len(checksum(ours)) == 64
    del deployment(ours)["spec"]["template"]["metadata"]["annotations"][CHECKSUM]
    for name in CONFIG_MAPS:
        assert config(ours, name) == config(theirs, name)
        for objects in (ours, theirs):
            del objects["ConfigMap", NAMESPACE, name]["data"]
    assert ours.keys() == theirs.keys()
    for key, each in ours.items():
        assert each == theirs[key]


def test_lint_has_nothing_to_say() -> None:
    said = helm("lint", "--strict", CHART, values=IMAGES)
    assert "[WARNING]" not in said
    assert "0 chart(s) failed" in said


def test_every_value_reaches_its_place() -> None:
    objects = render(
        {
            "image": {"repository": "registry.example.com/a", "version": "1.2.3"},
            "imagePullSecrets": [{"name": "registry"}],
            "server": {"repository": "registry.example.com:5000/b", "version": "1.2.2"},
            "autopilot": True,
            "namespaces": ["asr", "radiology"],
            "config": {
                "maxRollouts": 3,
                "listAgainSeconds": 12345678,
                "networkPolicy": {"egress": [{"cidr": "10.0.0.0/8"}]},
                "accelerators": {"l40s": {"nodeSelector": {"gpu": "true", "size": "1e3"}}},
            },
            "policy": {"preset": "multi-tenant", "everywhere": {"hosts": ["*.{namespace}.example.com"]}},
            "replicas": 3,
            "resources": {"limits": {"memory": "1Gi"}},
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {"a": "b"}},
            "serviceAccount": {"annotations": {"a": "true"}},
            "networkPolicy": {"scrapers": ["prometheus"], "apiServerPorts": [16443]},
            "crds": {"install": False},
            "clusterName": "second",
        }
    )
    pods = pod(objects)
    assert pods["containers"][0]["image"] == "registry.example.com/a:1.2.3-operator"
    assert pods["imagePullSecrets"] == [{"name": "registry"}]
    assert pods["nodeSelector"] == {"pool": "system"}
    assert pods["tolerations"] == [{"key": "system", "operator": "Exists"}]
    assert pods["affinity"] == {"podAntiAffinity": {"a": "b"}}
    # Values are merged by Helm: what is not said of a mapping stays.
    assert pods["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"memory": "1Gi"},
    }
    assert deployment(objects)["spec"]["replicas"] == 3
    account = objects["ServiceAccount", NAMESPACE, "whisper-operator"]
    assert account["metadata"]["annotations"] == {"a": "true"}
    policy = objects["NetworkPolicy", NAMESPACE, "whisper-operator"]["spec"]
    assert policy["egress"][1]["ports"] == [{"port": 16443}]
    (collectors,) = policy["ingress"][0]["from"][0]["namespaceSelector"]["matchExpressions"]
    assert collectors["values"] == ["prometheus"]
    assert config(objects, "whisper-operator-policy") == {
        "preset": "multi-tenant",
        "everywhere": {"hosts": ["*.{namespace}.example.com"]},
    }

    settings = parse(config(objects))
    assert settings.server_image("openai-whisper", "turbo") == (
        "registry.example.com:5000/b:1.2.2-openai-whisper-turbo"
    )
    assert settings.namespaces == ("asr", "radiology")
    assert settings.list_again_seconds == 12345678
    assert settings.max_rollouts == 3
    assert settings.accelerators["l40s"].node_selector == {"gpu": "true", "size": "1e3"}
    assert "cloud.google.com/gke-accelerator-count" in settings.accelerators["nvidia-l4"].node_selector

    kinds = {kind for kind, _, _ in objects}
    assert kinds.isdisjoint({"CustomResourceDefinition", "ClusterRoleBinding", "PodMonitoring"})
    assert {name for kind, _, name in objects if kind == "ClusterRole"} == {
        "second",
        "second-edit",
        "second-view",
    }
    for namespace in ("asr", "radiology"):
        binding = objects["RoleBinding", namespace, "whisper-operator"]
        assert binding["roleRef"]["name"] == "second"
        assert binding["subjects"][0]["namespace"] == NAMESPACE
        assert ("Role", namespace, "whisper-operator-claim") in objects
        assert ("RoleBinding", namespace, "whisper-operator-claim") in objects


def test_another_configuration_makes_new_pods_and_another_policy_none() -> None:
    before = checksum(render(IMAGES))
    assert checksum(render({**IMAGES, "policy": {"preset": "multi-tenant"}})) == before
    assert checksum(render({**IMAGES, "replicas": 1})) == before
    assert checksum(render({**IMAGES, "config": {"paused": True}})) != before


def test_without_a_network_policy_there_is_none() -> None:
    objects = render({**IMAGES, "networkPolicy": {"enabled": False}})
    assert not any(kind == "NetworkPolicy" for kind, _, _ in objects)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "image.repository is not set: give the repository that `make images` pushed to"),
        ({"image": IMAGES["image"]}, "server.version is not set: give the version of the server's images"),
        ({**IMAGES, "replica": 1}, "additional properties 'replica' not allowed"),
        ({**IMAGES, "replicas": "two"}, "at '/replicas': got string, want integer"),
        ({**IMAGES, "server": {"version": 0.1}}, "at '/server/version': got number, want string"),
        ({**IMAGES, "namespaces": "asr"}, "at '/namespaces': got string, want array"),
        ({**IMAGES, "config": {"maxRolouts": 2}}, "additional properties 'maxRolouts' not allowed"),
        ({**IMAGES, "config": {"autopilot": True}}, "additional properties 'autopilot' not allowed"),
        ({**IMAGES, "policy": {"everywhere": {"host": ["*"]}}}, "additional properties 'host' not allowed"),
        ({**IMAGES, "policy": {"preset": "multitenant"}}, "value must be one of 'none', 'multi-tenant'"),
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as caught:
        render(values)
    assert message in str(caught.value)


def test_the_notes_say_what_comes_next(cluster: Cluster) -> None:
    said = helm(
        *("install", "whisper-operator", CHART, "--namespace", "default", "--dry-run=client"),
        values={**IMAGES, "namespaces": ["asr"]},
        kubeconfig=cluster.kubeconfig,
    )
    notes = said.partition("NOTES:")[2]
    assert "looks after WhisperEndpoints in asr." in notes
    assert "kubectl rollout status deployment/whisper-operator -n default" in notes
    assert "metadata: {name: whisper, namespace: asr}" in notes
    assert "set policy.preset to multi-tenant" in notes


def test_helm_is_the_version_that_is_pinned() -> None:
    pinned = build.pinned("helm.sh/helm/v4", (DEPLOY.parent / "tests/ship/go/helm/go.mod").read_text())
    assert helm("version", "--template", "{{.Version}}").strip() == pinned
