"""The ways from nothing to an endpoint, README.md's and docs/gke.md's, walked as they stand.

kubectl is real, and so are the cluster, the operator's objects and the operator; what needs Google or a registry only notes
that it was called. The pages' blocks in `sh` run one after the other in one shell's environment, in a copy of what they need
of the checkout.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from devcluster import Cluster
from devcluster.installation import Operator
from tests.unit.commands import texts

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = ("gcloud", "make", "curl")
"""What is not run."""
NOTE = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLED"
case "$*" in
  *quotas*) echo "NVIDIA_T4_GPUS GPUS_ALL_REGIONS" ;;
  *describe*) echo 203.0.113.10 ;;
esac
"""


@pytest.fixture
def own() -> Iterator[Cluster]:
    with Cluster.start() as cluster:
        yield cluster


class Shell:
    """Runs blocks, and keeps what they export for the next one."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder, self.called = folder / "checkout", folder / "called"
        programs = folder / "programs"
        programs.mkdir()
        for name in ELSEWHERE:
            (programs / name).write_text(NOTE)
            (programs / name).chmod(0o755)
        for name in ("crds", "deploy", "examples"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("mine"))
        self.environment = os.environ | {
            "PATH": f"{programs}:{cluster.binaries}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.kubeconfig),
            "CALLED": str(self.called),
        }

    def run(self, commands: str) -> str:
        script = f"set -euo pipefail\n{commands}\necho ---\nenv -0"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        said, _, environment = done.stdout.rpartition("---\n")
        pairs = (each.partition("=") for each in environment.split("\0") if each)
        self.environment = {name: value for name, _, value in pairs}
        return said


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", ["README.md", "docs/gke.md"])
def test_the_page_ends_in_an_endpoint(own: Cluster, tmp_path: Path, page: str) -> None:
    shell, said = Shell(own, tmp_path), ""
    with ExitStack() as stack:
        for commands in texts(page, "sh"):
            said += shell.run(commands)
            if "kubectl apply -k" in commands:
                stack.enter_context(Operator(own)).wait_until_working()
    assert "whisperendpoint.whisper-operator.io/whisper condition met" in said
    called = shell.called.read_text()
    host, repository = shell.environment["HOST"], shell.environment["REPO"]
    assert f"curl -F file=@examples/audio/hello.wav https://{host}/whisper" in called
    config = yaml.safe_load((shell.folder / "deploy/overlays/mine/config.yaml").read_text())
    assert config["server"] == {"repository": repository, "version": "0.1.0"}
    assert f"{repository}:0.1.0-operator" in own.kubectl(
        "get", "deployment", "-n", "whisper-operator", "-o", "yaml"
    )
    if page == "docs/gke.md":  # which takes down what it made
        assert own.get("whisperendpoints", "-A")["items"] == []
        assert own.get("ingresses", "-A")["items"] == []
    else:
        (endpoint,) = own.get("whisperendpoints", "-A")["items"]
        assert endpoint["spec"]["host"] == host


@pytest.mark.parametrize("page", ["README.md", "docs/gke.md"])
def test_endpoints_on_the_page_are_accepted(installed: Cluster, namespace: str, page: str) -> None:
    for text in texts(page, "yaml"):
        if "kind: WhisperEndpoint" in text:
            installed.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", "-", input=text)
