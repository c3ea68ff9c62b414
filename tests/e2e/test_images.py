"""The container images: built as a platform team builds them, run as a cluster runs them.

Needs a Docker engine, which scripts/docker-engine installs and starts where this runs as root on Debian. Elsewhere these
tests are skipped, unless WHISPER_REQUIRE_DOCKER=1 says that they must run. What they build stays in the engine, so that
only the first run takes minutes.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest
import yaml

from devcluster import Cluster
from devcluster.installation import IMAGES, NAMESPACE, USER, install

ROOT = Path(__file__).parents[2]
REPOSITORY = "whisper-operator-test"
SPOKEN = {
    "hello.wav": "hello world please play music",
    "fox.flac": "the quick brown fox jumps over the lazy dog",
}
"""What the recordings in examples/audio say."""

MIB = 2**20
T = TypeVar("T")

# torch is 5 GB to download and unpack.
pytestmark = pytest.mark.timeout(3000)

# Runs a container as Pod Security "restricted" has it, on a read-only root file system.
RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")

CANARY = "whisper-operator-canary.invalid"
"""Stands in what this machine hands to the build, to be looked for in what came out."""


@dataclass(frozen=True)
class Images:
    """Tags of the images under test."""

    operator: str
    server: str


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """What a command prints; its failure, in its own words, fails the test."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def inspect(thing: str) -> dict[str, Any]:
    """Docker's own description of an image or a container."""
    description: dict[str, Any] = json.loads(run("docker", "inspect", thing))[0]
    return description


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    """A Docker engine; one that was started for these tests is stopped after them."""
    script = ROOT / "scripts" / "docker-engine"
    was_running = subprocess.run([script, "status"], capture_output=True, check=False).returncode == 0
    started = subprocess.run([script, "up"], stderr=subprocess.PIPE, text=True, check=False)
    if started.returncode != 0:
        reason = f"no Docker engine: {started.stderr.strip()[-1000:]}"
        if os.environ.get("WHISPER_REQUIRE_DOCKER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield
    if not was_running:
        run(script, "down")


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """pip's settings for the build: what this machine trusts, and a canary in each file that becomes a secret."""
    bundle = tmp_path_factory.mktemp("trust") / "bundle.crt"
    trusted = Path(os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt")
    bundle.write_text(trusted.read_text() + f"\n# {CANARY}\n")
    return {"PIP_CERT": str(bundle), "PIP_TRUSTED_HOST": CANARY}


@pytest.fixture(scope="module")
def images(handed_in: dict[str, str]) -> Images:
    """Both images, the server's with the demo model."""
    settings = {"REPO": REPOSITORY, "VERSION": "1.2.3", "MODEL": "demo"}
    return Images(*run(ROOT / "scripts" / "images", env=settings | handed_in).split())


@contextmanager
def container(*arguments: str) -> Iterator[str]:
    """A running container, removed in the end; what it logged is shown if the test fails."""
    name = run("docker", "run", "--detach", *arguments).strip()
    try:
        yield name
    finally:
        subprocess.run(["docker", "logs", name], check=False)
        run("docker", "rm", "--force", "--volumes", name)


def until(answer: Callable[[], T | None], what: str, seconds: float = 120) -> T:
    """The first answer that is not None; asks twice a second."""
    end = time.monotonic() + seconds
    while (found := answer()) is None:
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)
    return found


def fetch(url: str, body: bytes | None = None, content_type: str = "text/plain") -> tuple[int, str] | None:
    """Status and text of an answer; None where nobody answers (yet)."""
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return None


def port_of(name: str, port: int) -> str:
    """HOST:PORT on this machine for a container's port."""
    return run("docker", "port", name, str(port)).split()[0]


def layers(image: str) -> Iterator[tarfile.TarFile]:
    """Every layer of an image, to be read before the next is asked for; also what a later layer hides is in it."""
    with (
        subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving,
        tarfile.open(fileobj=saving.stdout, mode="r|") as archive,
    ):
        for blob in archive:
            content = archive.extractfile(blob) if blob.isfile() else None
            try:
                layer = tarfile.open(fileobj=content, mode="r|*") if content else None  # noqa: SIM115
            except tarfile.ReadError:
                continue  # a description, not a layer
            if layer:
                with layer:
                    yield layer
    assert saving.returncode == 0


def certificates(bundle: bytes) -> set[bytes]:
    """The certificates in a PEM bundle, each as the text between its markers without line ends."""
    found = re.findall(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", bundle, re.DOTALL)
    return {b"".join(one.split()) for one in found}


@pytest.mark.parametrize("name", ["operator", "server"])
def test_no_layer_keeps_what_was_handed_to_the_build(
    images: Images, handed_in: dict[str, str], name: str
) -> None:
    image = getattr(images, name)
    own = Path("/usr/local/share/ca-certificates")  # where Debian keeps those that it did not bring itself
    private = certificates(b"".join(path.read_bytes() for path in own.rglob("*.crt")))

    def is_private(entry: tarfile.TarInfo, file: IO[bytes] | None) -> bool:
        path = Path("/", entry.name)
        if path.is_relative_to("/run/secrets") or path.name in ("pip.conf", ".netrc", "bundle.crt", "ca.crt"):
            return True
        content = file.read() if file and entry.size < 4 * MIB else b""
        return CANARY.encode() in content or bool(certificates(content) & private)

    seen, suspicious = 0, []
    for layer in layers(image):
        seen += 1
        for entry in layer:
            if entry.isfile() and is_private(entry, layer.extractfile(entry)):
                suspicious.append(entry.name)
    assert suspicious == []
    assert seen == len(inspect(image)["RootFS"]["Layers"])
    described = json.dumps(inspect(image)) + run("docker", "history", "--no-trunc", image)
    assert CANARY not in described


@pytest.mark.parametrize(("name", "most"), [("operator", 350 * MIB), ("server", 7000 * MIB)])
def test_size_and_user(images: Images, name: str, most: int) -> None:
    image = inspect(getattr(images, name))
    assert image["Config"]["User"] == "65532:65532"
    assert image["Size"] < most


def test_the_operator_carries_no_server(images: Images) -> None:
    packages = run(
        "docker", "run", "--rm", "--entrypoint=python", images.operator, "-c",
        "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))",
    )  # fmt: skip
    assert {"whisper-operator", "kopf", "kubernetes"} <= set(packages.split())
    assert not {"torch", "flask", "pip", "openai-whisper"} & set(packages.split())


@pytest.mark.parametrize(
    "settings", [(), ("--env=WHISPER_ENGINE=faster-whisper",)], ids=["as built", "faster-whisper"]
)
def test_server_transcribes(images: Images, settings: tuple[str, ...]) -> None:
    with container(
        *RESTRICTED, *settings, "--publish=127.0.0.1::8000", "--publish=127.0.0.1::9090", images.server
    ) as name:
        public, operations = port_of(name, 8000), port_of(name, 9090)

        def ready() -> bool | None:
            assert inspect(name)["State"]["Running"], "the server has ended"
            answer = fetch(f"http://{operations}/readyz")
            return True if answer and answer[0] == 200 else None

        until(ready, "the server is ready")
        assert run("docker", "exec", name, "id", "-u").strip() == "65532"
        for filename, words in SPOKEN.items():
            body, content_type = multipart(ROOT / "examples" / "audio" / filename)
            answer = fetch(f"http://{public}/whisper", body, content_type)
            assert answer is not None
            assert answer[0] == 200, answer
            (result,) = json.loads(answer[1])["results"]
            assert result == {"filename": filename, "transcript": words}
        run("docker", "stop", "--time=60", name)
        assert inspect(name)["State"]["ExitCode"] == 0


def test_a_change_of_the_servers_code_reinstalls_no_library(
    images: Images, handed_in: dict[str, str], tmp_path: Path
) -> None:
    for name in ("operator", "server", "scripts"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        )
    for name in ("constraints.txt", "Dockerfile.server", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "server" / "whisper_server" / "__main__.py").open("a") as code:
        code.write(f"\n# changed: {uuid.uuid4()}\n")  # never seen before: what is built stays in the engine
    environment = os.environ | handed_in | {"REPO": REPOSITORY, "VERSION": "1.2.3-changed", "MODEL": "demo"}
    built = subprocess.run(
        [tmp_path / "scripts" / "images", "server"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    run("docker", "rmi", built.stdout.strip())
    titles = dict(re.findall(r"^(#\d+) \[(.+)", built.stderr, re.MULTILINE))
    again = [title for step, title in titles.items() if f"\n{step} CACHED\n" not in built.stderr]
    assert any("COPY server " in title for title in again), built.stderr
    kept = [title for title in titles.values() if title not in again]
    for costly in (
        "apt-get install",
        "pip install -c /run/constraints.txt",
        "-r /run/requirements.txt",
        "COPY --from=weights",
    ):
        assert any(costly in " ".join(title.split()) for title in kept), built.stderr
        assert not any(costly in " ".join(title.split()) for title in again), built.stderr


def test_operator_reconciles(images: Images, tmp_path: Path) -> None:
    children = ("deployment", "service", "backendconfig", "ingress", "managedcertificate")
    with Cluster.start() as cluster:
        install(cluster)
        cluster.kubectl("create", "namespace", "asr")
        account = service_account(cluster, tmp_path / "account")
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps({"server": IMAGES, "healthPort": free_port()}))  # JSON is YAML
        config.chmod(0o644)  # for the container's user
        host, _, port = cluster.server.removeprefix("https://").partition(":")
        in_pod = (
            f"--volume={account}:/var/run/secrets/kubernetes.io/serviceaccount:ro",
            f"--env=KUBERNETES_SERVICE_HOST={host}", f"--env=KUBERNETES_SERVICE_PORT={port}",
        )  # fmt: skip
        with container(
            *RESTRICTED, "--network=host", *in_pod, f"--volume={config}:/config.yaml:ro",
            images.operator, "run", "--config=/config.yaml",
        ) as name:  # fmt: skip
            cluster.kubectl("apply", "-n", "asr", "-f", str(ROOT / "examples" / "minimal.yaml"))

            def owned() -> set[str]:
                assert inspect(name)["State"]["Running"], "the operator has ended"
                found = cluster.get(
                    ",".join(children), "-n", "asr", "-l", "whisper-operator.io/endpoint=whisper"
                )
                return {child["kind"].lower() for child in found["items"]}

            until(lambda: owned() == set(children) or None, "its children")

            def ready() -> bool | None:
                endpoint = cluster.get("whisperendpoint", "whisper", "-n", "asr")
                conditions = endpoint.get("status", {}).get("conditions", [])
                return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) or None

            until(ready, "the endpoint is Ready")
            run("docker", "stop", "--time=30", name)
            assert inspect(name)["State"]["ExitCode"] == 0


def service_account(cluster: Cluster, folder: Path) -> Path:
    """The operator's ServiceAccount as a kubelet mounts it into a pod."""
    kubeconfig = yaml.safe_load(cluster.kubeconfig_for(USER).read_text())
    authority = kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]
    folder.mkdir(mode=0o755)
    for name, content in {
        "token": kubeconfig["users"][0]["user"]["token"].encode(),
        "ca.crt": base64.b64decode(authority),
        "namespace": NAMESPACE.encode(),
    }.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)  # for the container's user
    return folder


@pytest.mark.parametrize(
    ("settings", "arguments", "complaint"),
    [
        ({"MODEL": "Large!"}, [], "MODEL=Large! is no model's name"),
        ({"PUSH": "1", "REPO": "whisper"}, [], "PUSH=1 needs REPO=REGISTRY/PATH"),
        ({}, ["sever"], "there is no image 'sever'"),
    ],
)
def test_the_script_refuses(settings: dict[str, str], arguments: list[str], complaint: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "images", *arguments],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stderr


def multipart(clip: Path) -> tuple[bytes, str]:
    """A form with one file in it, and its content type."""
    boundary = "a1b2c3d4e5f6"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{clip.name}"\r\n\r\n'
    return (
        head.encode() + clip.read_bytes() + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
