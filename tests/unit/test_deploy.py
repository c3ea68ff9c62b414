"""What deploy/ says of the operator's own pods fits what the operator does."""

from pathlib import Path
from typing import Any

import yaml
from whisper_operator.config import Settings
from whisper_operator.leader.installations import CLAIM, LEADER

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def documents(path: str) -> dict[str, dict[str, Any]]:
    """By kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / path).read_text())}


def names(role: dict[str, Any]) -> list[str]:
    return [name for rule in role["rules"] for name in rule.get("resourceNames", [])]


def test_rights_are_for_the_leases_that_are_used() -> None:
    assert names(documents("base/rbac.yaml")["Role"]) == [LEADER]
    assert names(documents("overlays/namespaced/rights.yaml")["Role"]) == [CLAIM]
    # kustomize takes the name of a ConfigMap in resourceNames for that ConfigMap's, and gives it its hash.
    generated = yaml.safe_load((DEPLOY / "base/kustomization.yaml").read_text())["configMapGenerator"]
    assert not {each["name"] for each in generated} & {LEADER, CLAIM}


def test_one_of_two_replicas_may_be_away_and_they_are_apart() -> None:
    found = documents("base/operator.yaml")
    deployment, budget = found["Deployment"]["spec"], found["PodDisruptionBudget"]["spec"]
    assert deployment["replicas"] == 2
    assert budget["maxUnavailable"] == 1
    pods = deployment["template"]["metadata"]["labels"]
    constraints = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    selectors = [each["labelSelector"] for each in constraints]
    monitoring = documents("components/podmonitoring/podmonitoring.yaml")["PodMonitoring"]["spec"]
    selectors += [budget["selector"], found["NetworkPolicy"]["spec"]["podSelector"], monitoring["selector"]]
    assert all(each == {"matchLabels": pods} for each in selectors)
    (port,) = deployment["template"]["spec"]["containers"][0]["ports"]
    assert port["containerPort"] == Settings().health_port
    policy = found["NetworkPolicy"]["spec"]
    assert policy["ingress"][0]["ports"] == [{"port": port["name"]}]
    assert monitoring["endpoints"][0]["port"] == port["name"]
    (collectors,) = (each["namespaceSelector"] for each in policy["ingress"][0]["from"])
    assert tuple(collectors["matchExpressions"][0]["values"]) == Settings().scrapers


def test_the_operator_is_told_the_name_of_its_service_account() -> None:
    """By which other installations look up its rights."""
    (container,) = documents("base/operator.yaml")["Deployment"]["spec"]["template"]["spec"]["containers"]
    (variable,) = container["env"]
    assert variable["name"] == "WHISPER_OPERATOR_SERVICE_ACCOUNT"
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}


def test_a_replica_that_is_not_ready_keeps_no_node_from_being_drained() -> None:
    budget = documents("base/operator.yaml")["PodDisruptionBudget"]["spec"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
