"""docs/install-helm.md, run from top to bottom: its commands on a real API server, its values and messages with Helm."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from whisper_operator import __version__
from whisper_operator.config import parse

from devcluster import Cluster
from devcluster.installation import Operator
from release.archive import packed
from release.chart import CHART, OLDEST_KUBERNETES, ROOT
from tests.cluster.support import children, live
from tests.ship.charts import IMAGES, NAMESPACE, HelmError, config, helm, render
from tests.ship.programs import program
from tests.unit.commands import texts

NAME = "docs/install-helm.md"
PAGE = (ROOT / NAME).read_text()


@pytest.fixture
def bare() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        yield cluster


@pytest.mark.timeout(900)
def test_every_command_of_the_page_does_what_it_says(bare: Cluster, tmp_path: Path) -> None:
    (tmp_path / f"whisper-operator-{__version__}.tgz").write_bytes(packed("registry.example.com/whisper", 0))
    for name in ("crds", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = os.environ | {
        "PATH": f"{program('helm').parent}:{bare.binaries}:{os.environ['PATH']}",
        "KUBECONFIG": str(bare.kubeconfig),
        "HOME": str(tmp_path),
    }

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    install, make_endpoint, *others = texts(NAME, "sh")
    run(install)
    settings = bare.get("configmap", "whisper-operator", "-n", NAMESPACE)["data"]["config.yaml"]
    with Operator(bare, yaml.safe_load(settings)) as operator:
        operator.wait_until_working()
        run(make_endpoint)
    endpoint, made = live(bare, "default", "whisper"), children(bare, "default")
    said = [run(command) for command in others]
    assert len(said) > 8
    listed = [text for text in said if re.search(r"(?m)^default +whisper .* True ", text)]
    assert len(listed) == 2  # once with another server, once without an operator
    assert live(bare, "default", "whisper") == endpoint
    assert children(bare, "default") == made
    releases = yaml.safe_load(run("helm list --all-namespaces --output yaml"))
    assert {(each["name"], each["namespace"]) for each in releases} == {
        ("whisper-operator", "whisper-operator"),
        ("whisper-operator", "whisper-radiology"),
    }
    assert {each["status"] for each in releases} == {"deployed"}
    maps = {each["metadata"]["name"] for each in bare.get("configmap", "-n", NAMESPACE)["items"]}
    assert maps == {"whisper-operator", "whisper-operator-policy", "kube-root-ca.crt"}


def test_the_values_that_it_shows_are_taken() -> None:
    (text,) = texts(NAME, "yaml")
    objects = render(yaml.safe_load(text))
    assert parse(config(objects)).max_rollouts == 2
    assert config(objects, "whisper-operator-policy")["preset"] == "multi-tenant"


def test_every_value_is_explained() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    explained = set(re.findall(r"`([A-Za-z.]+)`", "".join(re.findall(r"(?m)^\| (`.*?) \|", PAGE))))
    for name, value in values.items():
        parts = {f"{name}.{part}" for part in value} if isinstance(value, dict) else set()
        assert name in explained or (parts and parts <= explained), name


@pytest.mark.parametrize(
    ("message", "values", "options"),
    [
        ("image.repository is not set", {}, ()),
        ("server.version is not set", {"image": IMAGES["image"]}, ()),
        ("values don't meet the specifications of the schema", {"replica": 1}, ()),
        ("chart requires kubeVersion", IMAGES, ("--kube-version", "v1.30.9")),
    ],
)
def test_helm_says_what_the_page_says(
    message: str, values: dict[str, object], options: tuple[str, ...]
) -> None:
    with pytest.raises(HelmError, match=re.escape(message)):
        render(values, *options)
    assert f"| `{message}` |" in PAGE


def test_gkes_versions_are_new_enough() -> None:
    assert render(IMAGES, "--kube-version", f"v{OLDEST_KUBERNETES}.0-gke.1000")


def test_a_kind_that_is_missing_is_said_so(bare: Cluster) -> None:
    bare.kubectl("delete", "crd", "podmonitorings.monitoring.googleapis.com")
    with pytest.raises(HelmError, match='no matches for kind "PodMonitoring"'):
        helm(
            *("install", "whisper-operator", CHART, "--namespace", "default"),
            values={**IMAGES, "podMonitoring": {"enabled": True}},
            kubeconfig=bare.kubeconfig,
        )
    assert '| `no matches for kind "PodMonitoring"` |' in PAGE
