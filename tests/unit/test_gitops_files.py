"""deploy/argocd and the pages about Argo CD and Flux: what they name is there, and their order is the one that works."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.commands import texts

ROOT = Path(__file__).resolve().parents[2]
ARGOCD = ROOT / "deploy" / "argocd"
CHECK = ARGOCD / "resource_customizations" / "whisper-operator.io" / "WhisperEndpoint" / "health.lua"
KEY = "resource.customizations.health.whisper-operator.io_WhisperEndpoint"
SYNC_OPTIONS = {
    *("ServerSideApply=true", "Prune=false", "Delete=false", "CreateNamespace=true", "RespectIgnoreDifferences=true"),
    *("SkipDryRunOnMissingResource=true", "PrunePropagationPolicy=foreground"),
}  # fmt: skip


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def blocks(page: str) -> list[dict[str, Any]]:
    """The documents in a page's YAML blocks."""
    return [body for text in texts(f"docs/{page}", "yaml") for body in yaml.safe_load_all(text)]


APPS = {path.stem: read(path) for path in sorted(ARGOCD.glob("apps/*.yaml"))}


def test_the_config_map_installs_the_health_check() -> None:
    """To write it anew, put health.lua under the key, indented by four."""
    assert read(ARGOCD / "argocd-cm.yaml")["data"] == {KEY: CHECK.read_text()}


def test_what_the_applications_name_is_there_and_comes_in_waves() -> None:
    waves = {
        name: int(each["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
        for name, each in APPS.items()
    }
    assert waves == {"crds": -2, "operator-helm": -1, "operator-kustomize": -1, "endpoints": 0}
    root = read(ARGOCD / "root.yaml")["spec"]["source"]
    assert (ROOT / root["path"] / root["directory"]["exclude"]).exists()
    assert (ROOT / APPS["crds"]["spec"]["source"]["path"] / "whisperendpoints.yaml").exists()
    assert (ROOT / APPS["operator-kustomize"]["spec"]["source"]["path"] / "kustomization.yaml").exists()


def test_the_crd_is_neither_pruned_nor_deleted() -> None:
    application = APPS["crds"]
    options = application["spec"]["syncPolicy"]["syncOptions"]
    assert {"Prune=false", "Delete=false", "ServerSideApply=true"} <= set(options)
    assert "finalizers" not in application["metadata"]
    (flux,) = (each for each in blocks("flux.md") if each["metadata"]["name"] == "whisper-crds")
    assert flux["spec"]["prune"] is False
    marks = flux["spec"]["commonMetadata"]["annotations"]
    assert marks == {"kustomize.toolkit.fluxcd.io/prune": "disabled"}


@pytest.mark.parametrize("name", APPS)
def test_sync_options_are_ones_that_argo_cd_knows(name: str) -> None:
    spec = APPS[name]["spec"]
    policy = spec.get("template", {}).get("spec", spec)["syncPolicy"]
    assert set(policy["syncOptions"]) <= SYNC_OPTIONS


def test_each_kustomization_waits_for_the_one_before() -> None:
    found = {each["metadata"]["name"]: each for each in blocks("flux.md") if each["kind"] == "Kustomization"}
    assert found["whisper-operator"]["spec"]["dependsOn"] == [{"name": "whisper-crds"}]
    sources = {each["metadata"]["name"] for each in blocks("flux.md") if each["kind"] == "GitRepository"}
    assert {each["spec"]["sourceRef"]["name"] for each in found.values()} == sources


NOT_RECORDED = {
    "CertificatePending": "Progressing",
    "ContainerNotCreated": "Degraded",
    "DeletionPending": "Progressing",
    "FrontendConfigMissing": "Progressing",
    "InvalidSpec": "Degraded",
    "LoadBalancerQuota": "Degraded",
    "ModelDownloadFailed": "Degraded",
    "ModelNotLoaded": "Degraded",
    "NoQuota": "Degraded",
    "NotDeployed": "Progressing",
    "OperatorFault": "Degraded",
    "PodEvicted": "Progressing",
    "PodFailed": "Progressing",
    "PolicyNotFound": "Degraded",
    "RedirectPending": "Progressing",
    "ServerSettingsInvalid": "Degraded",
    "VolumeNotMounted": "Progressing",
}
"""What health the reasons have that no test brings about on a cluster: Degraded where somebody has to act."""


def reasons() -> dict[str, set[str]]:
    """Every reason for which Ready is False, as it stands in the source, with the health that it may have."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "operator" / "whisper_operator").rglob("*.py")):
        if {"doctor", "offline"} & set(path.parts):
            continue
        tree = ast.parse(path.read_text())
        named = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            if node.func.id not in ("Fault", "SpecError"):
                continue
            acts = [each.value for each in node.keywords if each.arg in ("needs_action", "waits_for_room")]
            certain = not acts and len(node.args) < 3
            passing = [each for each in acts if isinstance(each, ast.Constant) and each.value is False]
            health = {"Degraded"} if certain else {"Progressing"} if passing else {"Degraded", "Progressing"}
            for part in ast.walk(node.args[0]):
                word = part.value if isinstance(part, ast.Constant) else None
                if isinstance(part, ast.Name):
                    word = named.get(part.id)
                if isinstance(word, str):
                    found.setdefault(word, set()).update(health)
    return found


def test_every_reason_there_is_has_a_health() -> None:
    """A new one goes into the faults table, which records it; or, where no test can bring it about, into NOT_RECORDED."""
    recorded: dict[str, set[str]] = {}
    for each in read(CHECK.with_name("health_test.yaml"))["tests"]:
        status = read(CHECK.parent / each["inputPath"])["status"]
        for condition in status.get("conditions", ()):
            if condition["type"] == "Ready":
                recorded.setdefault(condition["reason"], set()).add(each["healthStatus"]["status"])
    found = reasons()
    assert len(found) > 40
    assert found.keys() - recorded.keys() == NOT_RECORDED.keys()
    for reason, health in NOT_RECORDED.items():
        assert health in found[reason], reason
    assert {"Ready", "UpgradePending", "Suspended"} <= recorded.keys()
