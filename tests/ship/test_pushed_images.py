"""What a release pushes: the operator's image built by a BuildKit of one's own, and read back from a registry.

Needs root, for BuildKit, and a Docker engine, for the base image; skipped elsewhere.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.docker_engine import engine
from tests.ship.programs import program

__all__ = ["engine"]

ROOT = Path(__file__).parents[2]
MIB = 2**20
EPOCH = 1_600_000_000
"""Stands for the date of a commit: 2020-09-13T12:26:40Z."""

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(os.getuid() != 0, reason="BuildKit needs root"),
]


@dataclass(frozen=True)
class Registry:
    """A registry on this machine."""

    address: str

    def get(self, kind: str, reference: str, repository: str = "whisper") -> Any:
        """A manifest or blob that is JSON."""
        request = urllib.request.Request(
            f"http://{self.address}/v2/{repository}/{kind}/{reference}",
            headers={
                "Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@dataclass(frozen=True)
class Builder:
    """What scripts/images needs to build and push."""

    registry: Registry
    environment: dict[str, str]

    def push(self, checkout: Path, **settings: str) -> Any:
        """The index of the operator's image, built from the start and pushed."""
        done = subprocess.run(
            [checkout / "scripts" / "images", "operator"],
            env=os.environ | self.environment | {"NO_CACHE": "1", "PUSH": "1"} | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return self.registry.get("manifests", done.stdout.strip().rsplit(":", 1)[1])


def quiet(*command: str | Path, **environment: str) -> str:
    """What a command prints; its failure is shown in its own words."""
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


@contextmanager
def running(*command: str | Path, log: Path, ready: Path | int) -> Iterator[None]:
    """A daemon until the end of the block, ready once that socket exists or that port answers."""
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as daemon:
        try:
            end = time.monotonic() + 60
            while not (ready.exists() if isinstance(ready, Path) else answers(ready)):
                assert daemon.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < end, log.read_text()[-4000:]
                time.sleep(0.2)
            yield
        finally:
            daemon.terminate()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def builder(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """BuildKit and a registry of one's own, which has the base image."""
    folder = tmp_path_factory.mktemp("pushed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    settings = {
        "version": 0.1, "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}}, "http": {"addr": address}
    }  # fmt: skip
    (folder / "registry.yaml").write_text(json.dumps(settings))  # JSON is YAML
    plugins = folder / "docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(program("docker-buildx"))
    docker = {"DOCKER_CONFIG": str(folder / "docker")}
    base = f"{address}/base:1"
    built_from = os.environ.get("BASE") or quiet(ROOT / "scripts" / "images-base")
    daemon = (
        program("buildkitd"), "--root", folder / "buildkit", "--addr", f"unix://{folder}/buildkit.sock",
        "--containerd-worker=false", "--oci-worker-net=host",
    )  # fmt: skip
    with (
        running(
            program("registry"), "serve", folder / "registry.yaml", log=folder / "registry.log", ready=port
        ),
        running(*map(str, daemon), log=folder / "buildkit.log", ready=folder / "buildkit.sock"),
    ):
        quiet("docker", "tag", built_from, base)
        try:
            quiet("docker", "push", "--quiet", base)
            name = "whisper-operator-ship"
            quiet(
                "docker",
                "buildx",
                "create",
                "--name",
                name,
                "--driver",
                "remote",
                f"unix://{folder}/buildkit.sock",
                **docker,
            )
            yield Builder(
                Registry(address),
                {
                    **docker,
                    "BUILDER": name,
                    "BASE": base,
                    "REPO": f"{address}/whisper",
                    "SOURCE_DATE_EPOCH": str(EPOCH),
                },
            )
        finally:
            quiet("docker", "rmi", base)
    shutil.rmtree(folder / "buildkit", ignore_errors=True)


def image_of(index: Any) -> str:
    """The digest of an index's image for this kind of machine."""
    (digest,) = (each["digest"] for each in index["manifests"] if each["platform"]["os"] == "linux")
    return str(digest)


@pytest.fixture(scope="module")
def pushed(builder: Builder) -> Any:
    """An index, as it was pushed first."""
    return builder.push(ROOT, VERSION="1.2.3", SOURCE="https://git.example.com/whisper-operator")


def test_another_build_has_the_same_digest(builder: Builder, pushed: Any) -> None:
    again = builder.push(ROOT, VERSION="1.2.3", SOURCE="https://git.example.com/whisper-operator")
    assert image_of(again) == image_of(pushed)


def test_it_says_where_it_comes_from(builder: Builder, pushed: Any) -> None:
    manifest = builder.registry.get("manifests", image_of(pushed))
    config = builder.registry.get("blobs", manifest["config"]["digest"])
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["config"]["Labels"].items()
    }
    revision = quiet("git", "-C", ROOT, "rev-parse", "HEAD")
    assert labels.pop("revision").removesuffix("-changed") == revision
    assert labels == {
        "title": "whisper-operator",
        "description": "Kubernetes operator for Whisper speech-to-text endpoints",
        "licenses": "Apache-2.0",
        "version": "1.2.3",
        "source": "https://git.example.com/whisper-operator",
        "created": "2020-09-13T12:26:40Z",
    }
    assert config["created"] == "2020-09-13T12:26:40Z"


def test_its_provenance_names_the_base_and_no_setting_of_this_machine(builder: Builder, pushed: Any) -> None:
    (attestation,) = (
        each for each in pushed["manifests"]
        if each.get("annotations", {}).get("vnd.docker.reference.type") == "attestation-manifest"
    )  # fmt: skip
    assert attestation["annotations"]["vnd.docker.reference.digest"] == image_of(pushed)
    manifest = builder.registry.get("manifests", attestation["digest"])
    (layer,) = manifest["layers"]
    statement = builder.registry.get("blobs", layer["digest"])
    assert statement["predicateType"].startswith("https://slsa.dev/provenance/")
    assert {each["digest"]["sha256"] for each in statement["subject"]} == {
        image_of(pushed).removeprefix("sha256:")
    }
    text = json.dumps(statement)
    base = builder.registry.get("manifests", "1", "base")
    assert "base" in text
    assert base["config"]["digest"].startswith("sha256:")
    assert "PROXY" not in text.upper()
    assert str(ROOT) not in text


def test_an_upgrade_pulls_the_code_alone(builder: Builder, pushed: Any, tmp_path: Path) -> None:
    for name in ("operator", "server", "scripts", "crds"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("constraints.txt", "Dockerfile.operator", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    code = tmp_path / "operator" / "whisper_operator" / "__init__.py"
    code.write_text(code.read_text().replace('__version__ = "', '__version__ = "7.'))
    later = builder.push(tmp_path, VERSION="7.1.2.3", SOURCE_DATE_EPOCH=str(EPOCH + 86400))
    there, new = (
        {
            each["digest"]: each["size"]
            for each in builder.registry.get("manifests", image_of(index))["layers"]
        }
        for index in (pushed, later)
    )
    pulled = sum(size for digest, size in new.items() if digest not in there)
    print(f"an upgrade pulls {pulled / MIB:.1f} of {sum(new.values()) / MIB:.0f} MiB")
    assert 0 < pulled < 5 * MIB
    assert len(set(new) & set(there)) >= 2, "the base's layer and the libraries' are there already"
