"""The files of a release: the same each time, and they do what the documents say."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from whisper_operator import __version__

from devcluster import Cluster
from devcluster.installation import CRD, Operator, wait_for_kinds
from release import __main__ as releasing
from release.chart import ROOT
from tests.cluster.support import (
    children,
    endpoint,
    exists,
    live,
    wait_for_condition,
    wait_until_quiet,
    writes,
)
from tests.ship.charts import NAMESPACE, by_name, helm

REPOSITORY = "europe-docker.pkg.dev/project/asr/whisper"
CHART = f"whisper-operator-{__version__}.tgz"


def release(into: Path, umask: int, **environment: str) -> None:
    command = [sys.executable, "-m", "release", REPOSITORY, "--into", str(into)]
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, umask=umask, check=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "dist"
    release(folder, 0o022, PYTHONHASHSEED="1", TZ="UTC")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_two_runs_give_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    release(tmp_path / "dist", 0o077, PYTHONHASHSEED="2", TZ="Asia/Tokyo")
    assert contents(tmp_path / "dist") == contents(dist)


def test_the_time_given_is_all_that_else_decides(dist: Path, tmp_path: Path) -> None:
    release(tmp_path / "dist", 0o022, SOURCE_DATE_EPOCH="1700000000")
    ours, theirs = contents(dist), contents(tmp_path / "dist")
    assert ours.keys() == theirs.keys()
    texts = {"crd.yaml", "operator.yaml", "install.yaml"}
    assert {name for name in ours if ours[name] == theirs[name]} == texts


def test_all_files_are_there_with_their_sums(dist: Path) -> None:
    wheel = f"whisper_operator-{__version__}-py3-none-any.whl"
    needed = {"SHA256SUMS", "crd.yaml", "operator.yaml", "install.yaml", CHART, wheel}
    if (ROOT / "scripts" / "sbom").exists():
        needed |= {"operator.cdx.json", "server.cdx.json"}
    assert set(contents(dist)) == needed
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=dist,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()[::2]) == {f"{name}:" for name in needed - {"SHA256SUMS"}}


def test_helm_takes_the_chart_and_needs_no_repository(dist: Path) -> None:
    chart = yaml.safe_load(helm("show", "chart", dist / CHART))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    helm("lint", "--strict", dist / CHART, values={"server": {"version": __version__}})
    rendered = helm("template", "whisper-operator", dist / CHART, "--set", f"server.version={__version__}")
    pods = by_name(rendered)["Deployment", "default", "whisper-operator"]["spec"]["template"]["spec"]
    assert pods["containers"][0]["image"] == f"{REPOSITORY}:{__version__}-operator"


def test_the_package_renders_without_a_checkout(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    options = ("--quiet", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    subprocess.run([sys.executable, "-m", "pip", "install", *options], check=True)
    config = tmp_path / "config.yaml"
    config.write_text(f"server: {{repository: {REPOSITORY}, version: {__version__}}}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "whisper_operator", "render"),
            *("-f", ROOT / "examples" / "minimal.yaml", "--config", config),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{REPOSITORY}:{__version__}-openai-whisper-large-v3" in done.stdout


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        yield cluster


def test_install_yaml_installs_and_operator_yaml_takes_away_no_endpoint(dist: Path, bare: Cluster) -> None:
    whole = by_name((dist / "install.yaml").read_text())
    assert whole == by_name((dist / "crd.yaml").read_text()) | by_name((dist / "operator.yaml").read_text())
    bare.kubectl("apply", "-f", str(dist / "install.yaml"))
    wait_for_kinds(bare)
    bare.kubectl("rollout", "status", "deployment/whisper-operator", "-n", NAMESPACE, "--timeout=60s")
    (name,) = (name for kind, _, name in whole if kind == "ConfigMap" and not name.endswith("-policy"))
    settings = yaml.safe_load(bare.get("configmap", name, "-n", NAMESPACE)["data"]["config.yaml"])
    with Operator(bare, settings) as operator:
        operator.wait_until_working()
        bare.apply(endpoint("whisper", "default"))
        wait_for_condition(bare, "default", "whisper")
        made = children(bare, "default")
        pods = made["Deployment/whisper"]["spec"]["template"]["spec"]
        assert pods["containers"][0]["image"] == f"{REPOSITORY}:{__version__}-openai-whisper-large-v3"
        wait_until_quiet(bare)
        assert operator.complaints() == []
    assert writes(bare)
    before = live(bare, "default", "whisper")
    bare.kubectl("delete", "-f", str(dist / "operator.yaml"), "--timeout=120s")
    assert not exists(bare, "default", "namespace", NAMESPACE)
    assert live(bare, "default", "whisper") == before
    assert children(bare, "default").keys() == made.keys()


@pytest.mark.parametrize(
    "repository", ["", "whisper", "registry.example.com/whisper:0.1.0", "a b/c", "https://a/b"]
)
def test_a_repository_that_is_none_is_refused(repository: str, tmp_path: Path) -> None:
    with pytest.raises(releasing.ReleaseError, match="is no repository: say REGISTRY/PATH"):
        releasing.make(repository, tmp_path)


def test_a_release_is_not_mixed_with_another(tmp_path: Path) -> None:
    (tmp_path / "install.yaml").touch()
    with pytest.raises(releasing.ReleaseError, match="is not empty: remove it"):
        releasing.make(REPOSITORY, tmp_path)


def test_a_chart_that_is_out_of_date_is_not_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release.chart.out_of_date", lambda: [CRD])
    with pytest.raises(releasing.ReleaseError, match=r"the chart is out of date .*run .*release.chart"):
        releasing.make(REPOSITORY, tmp_path)


def test_a_time_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(releasing.ReleaseError, match="SOURCE_DATE_EPOCH=yesterday is no number of seconds"):
        releasing.make(REPOSITORY, tmp_path)
