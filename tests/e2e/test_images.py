"""The container images: built as a platform team builds them, run as a cluster runs them.

Needs a Docker engine, which scripts/docker-engine installs and starts where this runs as root on Debian. Elsewhere these
tests are skipped, unless WHISPER_REQUIRE_DOCKER=1 says that they must run. What they build stays in the engine, so that
only the first run takes minutes. tests/ship/test_pushed_images.py has what only a registry shows.
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
from tests.e2e.docker_engine import engine

__all__ = ["engine"]

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
pytestmark = [pytest.mark.timeout(3000), pytest.mark.usefixtures("engine")]

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
    settings = {
        "REPO": REPOSITORY, "VERSION": "1.2.3", "MODEL": "demo",
        "SOURCE": "https://git.example.com/whisper-operator", "SOURCE_DATE_EPOCH": "1600000000",
    }  # fmt: skip
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


@pytest.mark.release
@pytest.mark.parametrize("name", ["operator", "server"])
def test_an_image_has_what_its_bill_of_materials_says(images: Images, name: str) -> None:
    bill = json.loads(run(ROOT / "scripts" / "sbom", name))
    main = bill["metadata"]["component"]
    listed = {(spelled(each["name"]), each["version"]) for each in [*bill["components"], main]}
    printed = run(
        "docker", "run", "--rm", "--entrypoint=python", getattr(images, name), "-c",
        "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))",
    )  # fmt: skip
    installed = {
        (spelled(package), number) for package, number in (one.split("==") for one in printed.split())
    }
    assert installed == listed


def spelled(package: str) -> str:
    """A package's name in the one spelling in which names are compared."""
    return re.sub(r"[-_.]+", "-", package).lower()


@pytest.mark.parametrize("name", ["operator", "server"])
def test_bytecode_is_there_and_valid_whatever_the_files_times(images: Images, name: str) -> None:
    """Else each start of a container compiles all that it imports, since the root file system is read-only."""
    program = (
        "import pathlib, sysconfig\n"
        "files = list(pathlib.Path(sysconfig.get_path('purelib')).rglob('*.pyc'))\n"
        "print(len(files), sum(file.read_bytes()[4:8] != b'\\1\\0\\0\\0' for file in files))"
    )
    printed = run("docker", "run", "--rm", "--entrypoint=python", getattr(images, name), "-c", program)
    there, checked = map(int, printed.split())
    assert there > 1000
    assert checked == 0


def test_an_image_says_where_it_comes_from(images: Images) -> None:
    for image, title in ((images.operator, "whisper-operator"), (images.server, "whisper-server")):
        labels = inspect(image)["Config"]["Labels"]
        found = {label.removeprefix("org.opencontainers.image."): value for label, value in labels.items()}
        assert (found["title"], found["version"], found["licenses"]) == (title, "1.2.3", "Apache-2.0")
        assert found["created"] == "2020-09-13T12:26:40Z"
        assert found["source"] == "https://git.example.com/whisper-operator"


@pytest.mark.release
def test_another_build_has_the_same_layers(images: Images, handed_in: dict[str, str]) -> None:
    settings = {"REPO": REPOSITORY, "VERSION": "1.2.3-again", "NO_CACHE": "1"}
    again = run(ROOT / "scripts" / "images", "operator", env=settings | handed_in).strip()
    assert inspect(again)["RootFS"] == inspect(images.operator)["RootFS"]
    run("docker", "rmi", again)


@pytest.mark.parametrize("user", ["65532:65532", "1000660000:0"])
def test_the_operator_needs_no_network_to_render(images: Images, user: str) -> None:
    examples = f"--volume={ROOT / 'examples'}:/examples:ro"
    rendered = run(
        "docker", "run", "--rm", *RESTRICTED, "--network=none", f"--user={user}", examples,
        images.operator, "render", "-f", "/examples/complete.yaml",
    )  # fmt: skip
    assert "Deployment" in {each["kind"] for each in yaml.safe_load_all(rendered)}


@pytest.mark.parametrize("user", ["65532:65532", "1000660000:0"])
def test_the_server_needs_no_network_to_transcribe(images: Images, user: str) -> None:
    examples = f"--volume={ROOT / 'examples'}:/examples:ro"
    with container(*RESTRICTED, "--network=none", f"--user={user}", examples, images.server) as name:

        def inside(program: str) -> str | None:
            assert inspect(name)["State"]["Running"], "the server has ended"
            done = subprocess.run(
                ["docker", "exec", "--interactive", name, "python", "-"],
                input=f"from urllib.request import *; {program}",
                capture_output=True,
                text=True,
                check=False,
            )
            return done.stdout if done.returncode == 0 else None

        until(lambda: inside("urlopen('http://127.0.0.1:9090/readyz')"), "the server is ready")
        body, content_type = multipart(ROOT / "examples" / "audio" / "hello.wav")
        sent = (
            "import base64; "
            f"r = Request('http://127.0.0.1:8000/whisper', base64.b64decode({base64.b64encode(body)!r}), "
            f"{{'Content-Type': {content_type!r}}}); print(urlopen(r).read().decode())"
        )
        (result,) = json.loads(until(lambda: inside(sent), "an answer"))["results"]
        assert result["transcript"] == SPOKEN["hello.wav"]


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


def test_an_upgrade_of_the_server_pulls_the_code_alone(
    images: Images, handed_in: dict[str, str], tmp_path: Path
) -> None:
    """With weights in the image: a file stands for them that the changed code fetches anew."""
    for name in ("operator", "server", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("constraints.txt", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    dockerfile = (ROOT / "Dockerfile.server").read_text()
    (tmp_path / "Dockerfile.server").write_text(
        dockerfile.replace("/var/cache/models", "/var/cache/models-of-tests")
    )
    download = tmp_path / "server" / "whisper_server" / "engine" / "download.py"
    nothing = '        return "demo: part of the package, nothing to fetch"\n'
    assert nothing in download.read_text()
    fetched = '        Path(directory or "", "demo.pt").write_bytes(bytes(3 << 20))\n'
    download.write_text(download.read_text().replace(nothing, fetched + nothing))
    environment = os.environ | handed_in | {"REPO": REPOSITORY, "MODEL": "demo"}

    def build(version: str) -> tuple[str, str]:
        """The image's tag, and what the builder said."""
        done = subprocess.run(
            [tmp_path / "scripts" / "images", "server"],
            env=environment | {"VERSION": version}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.strip(), done.stderr

    before, _ = build("1.2.3-weights")
    code = tmp_path / "server" / "whisper_server" / "__init__.py"
    changed = (
        f'__version__ = "2.0.{uuid.uuid4().int}"'  # never seen before: what is built stays in the engine
    )
    code.write_text(re.sub(r"^__version__ = .+", changed, code.read_text(), flags=re.MULTILINE))
    after, said = build("2.0.0-weights")
    titles = dict(re.findall(r"^(#\d+) \[(.+)", said, re.MULTILINE))
    again = [title for step, title in titles.items() if f"\n{step} CACHED\n" not in said]
    costly = ("apt-get install", "-c /constraints.txt", "--from=torch", "--from=libraries", "--from=weights")
    for part in costly:
        assert any(part in title for title in titles.values()), said
        assert not any(part in title for title in again), said
    old, new = (inspect(image)["RootFS"]["Layers"] for image in (before, after))
    weights, pulled = size(after, "COPY /weights/"), size(after, "COPY /code/")
    assert weights == 3 * MIB, "the weights are a layer of their own"
    assert [a == b for a, b in zip(old, new, strict=True)][-4:] == [True, True, False, True]
    assert pulled < 5 * MIB
    print(f"an upgrade pulls {pulled / MIB:.1f} MiB, before compression")
    run("docker", "rmi", before, after)


def size(image: str, step: str) -> int:
    """Bytes of the layer that a step of the Dockerfile made, unpacked."""
    history = run(
        "docker", "history", "--no-trunc", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image
    )
    (found,) = (line.split()[0] for line in history.splitlines() if step in line)
    return int(found)


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
        ({"BUILDER": "mine", "REPO": "a/b"}, [], "BUILDER=mine pushes what it builds: set PUSH=1"),
        ({"SOURCE_DATE_EPOCH": "today"}, [], "SOURCE_DATE_EPOCH=today is no number of seconds"),
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
