"""An installation by Helm, through its life on a real API server: endpoints serve on, whatever is done to it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster
from devcluster.installation import CRD, USER, Operator, wait_for_kinds
from release.archive import packed
from release.chart import CHART, DEPLOY
from tests.cluster.support import (
    CHILDREN,
    EXAMPLES,
    endpoint,
    exists,
    live,
    now,
    until,
    wait_for_condition,
    wait_until_quiet,
    writes,
)
from tests.ship.charts import NAMESPACE, RELEASE, VALUES, HelmError, helm

CRD_NAME = "whisperendpoints.whisper-operator.io"
EPOCH = 1_700_000_000
KINDS = "deployments,configmaps,serviceaccounts,poddisruptionbudgets,networkpolicies,roles,rolebindings"


@pytest.fixture
def bare() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By version: 0.1.0 as it is, and one after it with another CRD."""
    folder = tmp_path_factory.mktemp("charts")
    later = folder / CHART.name
    for path in CHART.rglob("*"):
        if path.is_file():
            target = later / path.relative_to(CHART)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    crd = later / "files" / "whisperendpoints.yaml"
    old = "A WhisperEndpoint is a speech-to-text API"
    assert old in crd.read_text()
    crd.write_text(crd.read_text().replace(old, "A WhisperEndpoint of a later release is an API"))
    found = {}
    for version, source in (("0.1.0", CHART), ("0.1.1", later)):
        found[version] = folder / f"whisper-operator-{version}.tgz"
        found[version].write_bytes(
            packed("registry.example.com/whisper", EPOCH, folder=source, version=version)
        )
    return found


def run(cluster: Cluster, *arguments: str | Path, values: dict[str, Any] | None = None) -> str:
    return helm(*arguments, "--namespace", NAMESPACE, values=values, kubeconfig=cluster.kubeconfig)


def settings(cluster: Cluster, source: int = 0) -> dict[str, Any]:
    """What the operator's pods would read in the first of the ConfigMaps that they mount: the configuration; 1: the policy."""
    pod = cluster.get("deployment", "whisper-operator", "-n", NAMESPACE)["spec"]["template"]["spec"]
    name = pod["volumes"][0]["projected"]["sources"][source]["configMap"]["name"]
    (text,) = cluster.get("configmap", name, "-n", NAMESPACE)["data"].values()
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def crd(cluster: Cluster) -> tuple[str, str]:
    """Its uid, and what it says of its kind."""
    found = cluster.get("crd", CRD_NAME)
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found["metadata"]["uid"], schema["description"]


def as_they_are(cluster: Cluster, *namespaces: str) -> dict[str, tuple[str, str]]:
    """uid and resourceVersion of endpoints, and of all that was made for them."""
    return {
        f"{each['kind']}/{namespace}/{each['metadata']['name']}": (
            each["metadata"]["uid"],
            each["metadata"]["resourceVersion"],
        )
        for namespace in namespaces
        for each in cluster.get(f"{CHILDREN},wep,pods", "-n", namespace)["items"]
        if each["kind"] != "Pod" or "whisper-operator.io/endpoint" in each["metadata"].get("labels", {})
    }


def image(cluster: Cluster) -> str:
    deployment = cluster.get("deployment", "whisper-operator", "-n", NAMESPACE)
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def works_without_a_write(cluster: Cluster) -> None:
    """As new pods of the operator do: it reads everything, and finds nothing to do."""
    since = now()
    with Operator(cluster, settings(cluster), policy=settings(cluster, 1)) as operator:
        operator.wait_until_working()
        wait_until_quiet(cluster)
        assert writes(cluster, since) == []
        assert operator.complaints() == []


@pytest.mark.timeout(900)
def test_install_upgrade_roll_back_uninstall_reinstall(bare: Cluster, charts: dict[str, Path]) -> None:
    cluster = bare
    run(
        cluster,
        "install",
        RELEASE,
        charts["0.1.0"],
        "--create-namespace",
        "--wait",
        values={"server": {"version": "0.1.0"}},
    )
    wait_for_kinds(cluster)
    deployment = cluster.get("deployment", "whisper-operator", "-n", NAMESPACE)
    assert deployment["status"]["readyReplicas"] == 2
    assert image(cluster) == "registry.example.com/whisper:0.1.0-operator"
    with Operator(cluster, settings(cluster)) as operator:
        operator.wait_until_working()
        cluster.kubectl("apply", "-f", str(EXAMPLES / "minimal.yaml"))
        cluster.apply(endpoint("inside", "default", device="cpu"))
        for name in ("whisper", "inside"):
            wait_for_condition(cluster, "default", name)
        wait_until_quiet(cluster)
        assert operator.complaints() == []
    refused = [event for event in cluster.audit(user=USER) if event.code == 403]
    assert refused == []
    before, (uid, first) = as_they_are(cluster, "default"), crd(cluster)
    assert len(before) > 10

    # The values of the release before hold, and with them the server's version.
    said = run(cluster, "upgrade", RELEASE, charts["0.1.1"], "--reset-then-reuse-values", "--wait")
    assert "whisper-operator 0.1.1 looks after WhisperEndpoints in all namespaces." in said
    assert image(cluster) == "registry.example.com/whisper:0.1.1-operator"
    assert settings(cluster)["server"]["version"] == "0.1.0"
    assert crd(cluster) == (
        uid,
        first.replace("WhisperEndpoint is a speech-to-text", "WhisperEndpoint of a later release is an"),
    )
    works_without_a_write(cluster)
    assert as_they_are(cluster, "default") == before

    run(cluster, "rollback", RELEASE, "1", "--wait")
    assert image(cluster) == "registry.example.com/whisper:0.1.0-operator"
    assert crd(cluster) == (uid, first)
    works_without_a_write(cluster)
    assert as_they_are(cluster, "default") == before

    run(cluster, "uninstall", RELEASE, "--wait")
    assert cluster.get("crd", CRD_NAME)["metadata"]["uid"] == uid
    assert cluster.get(KINDS, "-n", NAMESPACE, "-l", "app.kubernetes.io/managed-by=Helm")["items"] == []
    assert not exists(cluster, NAMESPACE, "deployment", "whisper-operator")
    assert as_they_are(cluster, "default") == before

    # Under another name, the CRD is another release's.
    with pytest.raises(HelmError, match="invalid ownership metadata"):
        run(cluster, "install", "another", charts["0.1.1"], values={"server": {"version": "0.1.0"}})
    run(cluster, "install", RELEASE, charts["0.1.1"], "--wait", values={"server": {"version": "0.1.0"}})
    assert crd(cluster)[0] == uid
    works_without_a_write(cluster)
    assert as_they_are(cluster, "default") == before

    # Another version of the server is what changes pods.
    run(
        cluster,
        "upgrade",
        RELEASE,
        charts["0.1.1"],
        "--reuse-values",
        "--set",
        "server.version=0.1.1",
        "--wait",
    )
    with Operator(cluster, settings(cluster)) as operator:
        operator.wait_until_working()

        def versions() -> set[str]:
            found = cluster.get("deployments", "-n", "default")["items"]
            return {re.findall(r":(0\.1\.\d)", str(each["spec"]["template"]))[0] for each in found}

        until(lambda: versions() == {"0.1.1"}, "both endpoints have the other server", ceiling=180)


@pytest.mark.timeout(600)
def test_from_kustomize_to_helm_and_back(bare: Cluster, charts: dict[str, Path]) -> None:
    cluster, folder = bare, str(DEPLOY / "overlays" / "example")
    cluster.kubectl("apply", "-f", str(CRD))
    cluster.kubectl("apply", "-k", folder)
    wait_for_kinds(cluster)
    with Operator(cluster, settings(cluster)) as operator:
        operator.wait_until_working()
        cluster.apply(endpoint("inside", "default", device="cpu"))
        wait_for_condition(cluster, "default", "inside")
        wait_until_quiet(cluster)
    before, uid = as_they_are(cluster, "default"), crd(cluster)[0]
    deployment = cluster.get("deployment", "whisper-operator", "-n", NAMESPACE)["metadata"]["uid"]

    values = {"server": {"version": "0.1.0"}, "podMonitoring": {"enabled": True}}
    with pytest.raises(HelmError, match="invalid ownership metadata"):
        run(cluster, "install", RELEASE, charts["0.1.0"], values=values)
    run(
        cluster,
        "install",
        RELEASE,
        charts["0.1.0"],
        "--take-ownership",
        "--force-conflicts",
        "--wait",
        values=values,
    )
    assert cluster.get("deployment", "whisper-operator", "-n", NAMESPACE)["metadata"]["uid"] == deployment
    assert crd(cluster)[0] == uid
    works_without_a_write(cluster)
    assert as_they_are(cluster, "default") == before

    cluster.kubectl("apply", "-f", str(CRD))
    cluster.kubectl("apply", "-k", folder)
    cluster.kubectl("delete", "secret", "-n", NAMESPACE, "-l", f"owner=helm,name={RELEASE}")
    assert run(cluster, "list", "--short").strip() == ""
    assert cluster.get("deployment", "whisper-operator", "-n", NAMESPACE)["metadata"]["uid"] == deployment
    works_without_a_write(cluster)
    assert as_they_are(cluster, "default") == before


@pytest.mark.timeout(600)
def test_for_some_namespaces_only(bare: Cluster, charts: dict[str, Path]) -> None:
    cluster = bare
    for name in ("asr", "elsewhere"):
        cluster.kubectl("create", "namespace", name)
    values: dict[str, Any] = {
        "server": {"version": "0.1.0"},
        "namespaces": ["asr"],
        "policy": {"preset": "multi-tenant"},
    }
    with pytest.raises(HelmError, match='namespaces "radiology" not found'):
        run(
            *(cluster, "install", RELEASE, charts["0.1.0"], "--create-namespace"),
            values={**values, "namespaces": ["asr", "radiology"]},
        )
    run(cluster, "upgrade", "--install", RELEASE, charts["0.1.0"], "--wait", values=values)
    wait_for_kinds(cluster)
    with Operator(cluster, settings(cluster), policy=settings(cluster, 1)) as operator:
        operator.wait_until_working()
        cluster.apply(endpoint("whisper", "asr"), endpoint("whisper", "elsewhere"))
        cluster.apply(endpoint("public", "asr", host="whisper.example.com"))
        wait_for_condition(cluster, "asr", "whisper")
        wait_for_condition(cluster, "asr", "public", status="False", reason="PolicyViolation")
        assert live(cluster, "elsewhere", "whisper")["status"] == {"observedGeneration": -1}
        assert operator.complaints() == []
    assert [event for event in cluster.audit(user=USER) if event.code == 403] == []
    assert {event.namespace for event in writes(cluster)} == {"asr"}

    # To all namespaces, without a step by hand.
    cluster.kubectl("delete", "wep", "--all", "-A")
    run(cluster, "upgrade", RELEASE, charts["0.1.0"], "--wait", values={"server": {"version": "0.1.0"}})
    assert not exists(cluster, "asr", "role", "whisper-operator-claim")
    with Operator(cluster, settings(cluster)) as operator:
        operator.wait_until_working()
        cluster.apply(endpoint("whisper", "elsewhere"))
        wait_for_condition(cluster, "elsewhere", "whisper")


@pytest.mark.parametrize("folder", VALUES)
def test_the_api_server_takes_all_of_it(cluster: Cluster, namespace: str, folder: str) -> None:
    values = {**VALUES[folder], **({"namespaces": [namespace]} if "namespaces" in VALUES[folder] else {})}
    text = helm("template", RELEASE, CHART, "--namespace", namespace, values=values)
    said = cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", input=text)
    assert len(said.splitlines()) == text.count("\nkind: ")
    said = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
    assert "deployment.apps/whisper-operator created (server dry run)" in said


def test_doctor_finds_nothing_wrong_with_it(bare: Cluster, charts: dict[str, Path]) -> None:
    run(
        bare,
        "install",
        RELEASE,
        charts["0.1.0"],
        "--create-namespace",
        "--wait",
        values={"server": {"version": "0.1.0"}},
    )
    wait_for_kinds(bare)
    with Operator(bare, settings(bare)) as operator:
        operator.wait_until_working()
        done = subprocess.run(
            [sys.executable, "-m", "whisper_operator", "doctor", "--kubeconfig", bare.kubeconfig, "-A", "-v"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "ERROR" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
