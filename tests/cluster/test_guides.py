"""docs/guides/: each guide is followed as it stands, block by block, on the development cluster.

In a guide a block of `sh` is run, a block of `yaml` whose first line is `# FILE.yaml` is a file of that name for it, and a block
of `console` is only shown: what it prints, or what takes a real cloud.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster, DevclusterError
from devcluster.installation import Operator
from tests.cluster.metrics_api import MetricsApi
from tests.cluster.support import own_faults, until, wait_for_condition
from tests.unit.commands import PAGES, blocks, objects

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"


class Follower:
    """Somebody at a shell with kubectl, whose context names a namespace."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._folder = folder
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        for each in config["contexts"]:
            each["context"]["namespace"] = namespace
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        self._environment = os.environ | {
            "PATH": f"{cluster.binaries}:{os.environ['PATH']}",
            "KUBECONFIG": str(kubeconfig),
            "KUBECTL_KUBERC": "false",
        }

    def follow(self, guide: str) -> str:
        """Do what it says; what that printed."""
        return "".join(self.steps(guide))

    def steps(self, guide: str) -> Iterator[str]:
        """Run block after block; what each printed."""
        for block in blocks(GUIDES / guide):
            name = re.match(r"# (\S+\.yaml)\n", block.text)
            if block.language == "yaml" and name:
                (self._folder / name[1]).write_text(block.text)
            elif block.language == "sh":
                yield self.run(block.text)

    def run(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def follower(installed: Cluster, namespace: str, tmp_path: Path) -> Follower:
    folder = tmp_path / "guide"
    folder.mkdir()
    return Follower(installed, namespace, folder)


def by_hand(namespace: str, host: str) -> list[dict[str, Any]]:
    """What the how-to on the web has one write."""
    labels = {"app": "whisper"}
    container = {
        "name": "whisper",
        "image": "registry.example.com/by-hand:1",
        "ports": [{"containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    backend = {"service": {"name": "whisper", "port": {"number": 8000}}}
    bodies: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
        "Deployment": (
            "apps/v1",
            {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "containers": [container],
                        "nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"},
                        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    },
                },
            },
            {},
        ),
        "Service": (
            "v1",
            {"selector": labels, "ports": [{"port": 8000}]},
            {"cloud.google.com/neg": '{"ingress":true}'},
        ),
        "ManagedCertificate": ("networking.gke.io/v1", {"domains": [host]}, {}),
        "Ingress": (
            "networking.k8s.io/v1",
            {"rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]},
            {
                "kubernetes.io/ingress.global-static-ip-name": "whisper",
                "networking.gke.io/managed-certificates": "whisper",
            },
        ),
    }  # fmt: skip
    return [
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": "whisper", "namespace": namespace, "annotations": annotations},
            "spec": spec,
        }
        for kind, (version, spec, annotations) in bodies.items()
    ]


def front_door(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """What users of the endpoint would notice, were it another: address, certificate, and the objects that have them."""
    ingress = cluster.get("ingress", "whisper", "-n", namespace)
    certificate = cluster.get("managedcertificate", "whisper", "-n", namespace)
    annotations = ingress["metadata"]["annotations"]
    return {
        "address": ingress["status"]["loadBalancer"]["ingress"],
        "uids": [each["metadata"]["uid"] for each in (ingress, certificate)],
        "certificate": (certificate["spec"], certificate.get("status")),
        "attached": annotations.get("ingress.gcp.kubernetes.io/pre-shared-cert"),
        "hosts": [rule["host"] for rule in ingress["spec"]["rules"]],
    }


def backends(cluster: Cluster, namespace: str) -> list[str]:
    (rule,) = cluster.get("ingress", "whisper", "-n", namespace)["spec"]["rules"]
    return [path["backend"]["service"]["name"] for path in rule["http"]["paths"]]


@pytest.mark.timeout(600)
def test_moving_keeps_address_and_certificate_at_each_step(
    installed: Cluster, operator: Operator, namespace: str, follower: Follower
) -> None:
    installed.apply(*by_hand(namespace, f"{namespace}.example.com"))

    def serves() -> bool:
        certificate = installed.get("managedcertificate", "whisper", "-n", namespace)
        return bool(certificate.get("status", {}).get("certificateStatus") == "Active")

    until(serves, "the certificate made by hand is active")
    before = front_door(installed, namespace)
    assert before["address"]
    assert before["attached"]
    pointed = []
    for _ in follower.steps("moving.md"):
        assert front_door(installed, namespace) == before
        pointed.append(backends(installed, namespace))
    new = "speech-front-door"
    assert ["whisper"] in pointed
    assert [new, "whisper"] in pointed  # warming up
    assert pointed.index([new, new]) < pointed.index([new])  # there, and back, and there again
    assert pointed[-1] == [new]
    wait_for_condition(installed, namespace, "speech")

    def pods() -> list[str]:
        found = installed.get("endpointslices", "-n", namespace, "-l", f"kubernetes.io/service-name={new}")[
            "items"
        ]
        return [each["targetRef"]["name"] for part in found for each in part["endpoints"] or ()]

    until(
        lambda: len(pods()) == 1 and pods()[0].startswith("speech-"),
        "the endpoint's pod is behind the Service",
    )
    assert front_door(installed, namespace) == before
    events = installed.get("events", "-n", namespace, "--field-selector=involvedObject.kind=Ingress")["items"]
    warnings = [each["message"] for each in events if each["type"] == "Warning"]
    # Google's load balancer is asked for the group before it is there, and asked again.
    assert [each for each in warnings if "networkEndpointGroups" not in each] == []
    service = installed.get("service", new, "-n", namespace)
    assert "cloud.google.com/neg-status" in service["metadata"]["annotations"]
    assert own_faults(operator) == []


@pytest.mark.timeout(600)
def test_keys_are_made_shown_added_and_taken_away(
    installed: Cluster, operator: Operator, namespace: str, follower: Follower
) -> None:
    printed = follower.follow("api-keys.md")
    assert re.search(r"\b[0-9a-f]{48}", printed)  # alice's key
    secret = installed.get("secret", "whisper-keys", "-n", namespace)["data"]
    assert set(secret) == {"alice-2", "batch", "carol"}
    wait_for_condition(installed, namespace, "speech")


@pytest.mark.timeout(600)
def test_autoscaling_scales_and_is_taken_away_again(
    installed: Cluster, operator: Operator, namespace: str, follower: Follower, tmp_path: Path
) -> None:
    with MetricsApi(installed, tmp_path) as metrics:
        metrics.in_flight[namespace] = 1
        printed = follower.follow("autoscaling.md")
    assert "there" in printed
    assert "Deployment/elastic" in printed
    resource = wait_for_condition(installed, namespace, "elastic")
    assert resource["spec"]["replicas"] == 2
    assert resource["status"]["effective"]["replicas"] == 2


def test_every_object_on_every_page_is_taken(installed: Cluster, namespace: str) -> None:
    """Whatever kind this cluster knows; those of Argo CD and others are for the tests of what speaks of them."""
    rows = [row.split() for row in installed.kubectl("api-resources", "--no-headers").splitlines()]
    namespaced = {(row[-3], row[-1]): row[-2] == "true" for row in rows}
    taken, refused = set(), []
    for page in PAGES:
        for block in blocks(page):
            for each in objects(block) if block.language in ("yaml", "yml") else ():
                kind = (each["apiVersion"], each["kind"])
                if kind not in namespaced:
                    continue
                if namespaced[kind]:
                    each["metadata"]["namespace"] = namespace
                try:
                    arguments = ("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-")
                    installed.kubectl(*arguments, input=yaml.safe_dump(each))
                    taken.add(each["kind"])
                except DevclusterError as error:
                    refused.append(f"{block}: {error}")
    assert refused == []
    assert {"WhisperEndpoint", "BackendConfig", "NetworkPolicy", "Service"} <= taken
