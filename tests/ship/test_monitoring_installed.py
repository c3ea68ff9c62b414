"""docs/monitoring.md as it stands: what it has one apply can be applied, what it has one run runs."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.__main__ import RULES
from devcluster import Cluster
from devcluster.installation import Operator, install, wait_for_kinds
from devcluster.waiting import eventually
from tests.ship.observing import ROOT, prometheus_by
from tests.unit.commands import texts

PAGE = "docs/monitoring.md"
YAML = [yaml.safe_load(text) for text in texts(PAGE, "yaml")]
OVERLAYS = {
    "google": next(each for each in YAML if "../../components/managed-rules" in each.get("components", ())),
    "operator": next(
        each for each in YAML if "../../components/prometheus-rules" in each.get("components", ())
    ),
}
(CONFIG,) = (each for each in YAML if "scrape_configs" in each)

COMMANDS = [
    line
    for text in texts(PAGE, "sh")
    for line in text.splitlines()
    # Simulated pods have no kubelet that could be asked.
    if not line.startswith(("kubectl logs", "kubectl get --raw"))
]


@pytest.fixture(scope="module")
def looked_after(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster that knows both kinds of rules and collectors, with an endpoint."""
    cluster.kubectl("apply", "-f", str(ROOT / "tests" / "ship" / "crds" / "rules.yaml"))
    cluster.kubectl("apply", "-f", str(ROOT / "tests" / "cluster" / "crds" / "podmonitors.yaml"))
    install(cluster)
    wait_for_kinds(cluster)
    with Operator(cluster) as operator:
        operator.wait_until_working()
        cluster.apply(
            {
                "apiVersion": "whisper-operator.io/v1alpha1",
                "kind": "WhisperEndpoint",
                "metadata": {"name": "on-call", "namespace": "default"},
                "spec": {"device": "cpu"},
            }
        )
        cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "wep/on-call", "-n", "default")
        yield cluster


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_overlays_of_the_page_can_be_applied(looked_after: Cluster, tmp_path: Path, name: str) -> None:
    deploy = tmp_path / "deploy"
    shutil.copytree(ROOT / "deploy", deploy, ignore=shutil.ignore_patterns("__pycache__"))
    mine = deploy / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(OVERLAYS[name]))
    rendered = looked_after.kubectl("kustomize", str(mine))
    looked_after.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=rendered
    )
    documents = list(yaml.safe_load_all(rendered))
    kinds = {each["kind"] for each in documents}
    rules, collector = {
        "google": ("ClusterRules", "PodMonitoring"),
        "operator": ("PrometheusRule", "PodMonitor"),
    }[name]
    assert {rules, collector, "Deployment"} <= kinds
    (found,) = (each for each in documents if each["kind"] == rules)
    assert found["spec"] == yaml.safe_load(RULES.read_text())
    (dashboards,) = (each for each in documents if each["metadata"]["name"] == "whisper-dashboards")
    assert dashboards["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert dashboards["data"].keys() == {"whisper-operator.json", "whisper-endpoints.json"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(looked_after: Cluster, command: str) -> None:
    words = shlex.split(command.replace("NAMESPACE", "default").replace("NAME", "on-call"))
    if words[0] == "kubectl":
        looked_after.kubectl(*words[1:])
        return
    assert words[0] == "whisper-operator"
    done = subprocess.run(
        [sys.executable, "-m", "whisper_operator", *words[1:], "--kubeconfig", str(looked_after.kubeconfig)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # it looked, whatever it found


def labelled(pod: str, namespace: str, port: str, endpoint: str | None = None) -> dict[str, str]:
    """What a Prometheus in a cluster knows of a pod's port."""
    labels = {
        "__meta_kubernetes_pod_name": pod,
        "__meta_kubernetes_namespace": namespace,
        "__meta_kubernetes_pod_container_port_name": port,
    }
    return labels | (
        {"__meta_kubernetes_pod_label_whisper_operator_io_endpoint": endpoint} if endpoint else {}
    )


@pytest.mark.timeout(3600)  # Prometheus is built first
def test_the_scrape_configuration_of_the_page_keeps_and_names_what_it_should(tmp_path: Path) -> None:
    """With the pods of a cluster given, as there is none here that could be scraped."""
    pods = {
        "10.0.0.1:8080": labelled("one", "whisper-operator", "health"),
        "10.0.0.2:9090": labelled("speech-1", "asr", "ops", "speech"),
        "10.0.0.2:8000": labelled("speech-1", "asr", "http", "speech"),
        "10.0.0.3:9090": labelled("stranger", "asr", "ops"),
    }
    given = [{"targets": [address], "labels": labels} for address, labels in pods.items()]
    config: dict[str, Any] = {**CONFIG, "rule_files": [str(RULES)], "scrape_configs": []}
    for job in CONFIG["scrape_configs"]:
        kept = {key: value for key, value in job.items() if key != "kubernetes_sd_configs"}
        config["scrape_configs"].append(kept | {"static_configs": given})
    with prometheus_by(tmp_path, config) as found:
        targets = eventually(
            lambda: found.ask("targets?state=active")["activeTargets"], timeout=60, what="there are targets"
        )
    assert {each["scrapePool"]: each["labels"] for each in targets} == {
        "whisper-operator": {
            "job": "whisper-operator",
            "instance": "10.0.0.1:8080",
            "namespace": "whisper-operator",
            "pod": "one",
        },
        "whisper-servers": {
            "job": "whisper-servers",
            "instance": "10.0.0.2:9090",
            "namespace": "asr",
            "pod": "speech-1",
            "whisper_endpoint": "speech",
        },
    }
    assert len(targets) == 2
