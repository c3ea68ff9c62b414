"""`kubectl whisper` as its users run it: the real kubectl, a real control plane, and a real server behind its port-forward."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, processes
from devcluster.installation import Operator, install
from devcluster.ports import free_ports
from devcluster.waiting import eventually
from tests.unit.commands import texts

ROOT = Path(__file__).resolve().parents[2]
AUDIO = ROOT / "examples" / "audio"
HELLO, FOX = AUDIO / "hello.wav", AUDIO / "fox.flac"
SPOKEN = {
    row.split("\t")[0]: row.split("\t")[1] for row in (AUDIO / "transcripts.tsv").read_text().splitlines()
}
KEY = "sk-of-alice"

pytestmark = pytest.mark.timeout(600)


@dataclass
class User:
    """Somebody at a shell."""

    environment: dict[str, str]

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """kubectl whisper ARGUMENTS."""
        return subprocess.run(
            ["kubectl", "whisper", *map(str, arguments)],
            **{
                "env": self.environment,
                "capture_output": True,
                "text": True,
                "check": False,
                "cwd": ROOT,
                **options,
            },
        )

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["kubectl", "whisper", *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # As from a terminal: a shell that runs the tests in its background would have it ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """Without the operator or its CRD."""
    with Cluster.start() as cluster:
        yield cluster


def user_of(cluster: Cluster, kubeconfig: Path) -> User:
    """With kubectl-whisper as its package's entry point makes it."""
    folder = cluster.folder / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "kubectl-whisper"
    start = "import sys; from whisper_operator.plugin.__main__ import main; sys.exit(main())"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    script.chmod(0o755)
    mark = {"KUBECONFIG": str(kubeconfig), "PATH": f"{folder}:{cluster.binaries}:{os.environ['PATH']}"}
    return User(processes.environment(cluster.folder) | mark | {"TERM": "xterm"})


@pytest.fixture(scope="module")
def ann(bare: Cluster) -> User:
    """Who may do everything."""
    return user_of(bare, bare.kubeconfig)


@pytest.fixture(scope="module")
def without_crd(bare: Cluster, ann: User) -> subprocess.CompletedProcess[str]:
    """What is said before it is installed."""
    return ann.run("status")


@pytest.fixture(scope="module")
def cluster(bare: Cluster, without_crd: object) -> Iterator[Cluster]:
    """With the endpoints `whisper`, and `keyed`, which needs a key."""
    install(bare)
    with Operator(bare) as operator:
        operator.wait_until_working()
        bare.kubectl(
            "create",
            "secret",
            "generic",
            "whisper-keys",
            f"--from-literal=alice={KEY}",
            "--from-literal=bob=x",
        )
        bare.apply(
            endpoint("whisper", host="whisper.example.com", staticIPName="whisper"),
            endpoint("keyed", model="turbo", auth={"secretName": "whisper-keys"}),
        )
        bare.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "wep", "--all")
        yield bare


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "whisper-operator.io/v1alpha1",
        "kind": "WhisperEndpoint",
        "metadata": metadata,
        "spec": spec,
    }


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Path]:
    """A real one, for the pods, that needs a key and has one place; its log."""
    keys = cluster.folder / "keys"
    keys.mkdir()
    (keys / "alice").write_text(KEY)
    (ops,) = free_ports(1)
    settings = {
        "WHISPER_MODEL": "demo",
        "WHISPER_DEVICE": "cpu",
        "WHISPER_BIND": "127.0.0.1",
        "WHISPER_PORT": str(cluster.pod_port),
        "WHISPER_OPS_PORT": str(ops),
        "WHISPER_API_KEYS_DIR": str(keys),
        "WHISPER_MAX_QUEUE": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = cluster.folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [ROOT / ".venv-server" / "bin" / "whisper-server"],
            env=processes.environment(cluster.folder) | settings,
            stdout=output,
            stderr=output,
        )
    try:
        probe = ["curl", "-sf", "-o", os.devnull, f"http://127.0.0.1:{ops}/readyz"]
        eventually(
            lambda: subprocess.run(probe, check=False).returncode == 0,
            timeout=240,
            what="the server is ready",
        )
        yield log
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def nothing_is_left(bare: Cluster) -> Iterator[None]:
    yield
    assert forwards(bare) == []


def forwards(cluster: Cluster) -> list[int]:
    """Processes of `kubectl port-forward`."""
    found = []
    for pid in processes.running(cluster.folder):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"port-forward" in command:
            found.append(pid)
    return found


def test_a_cluster_without_the_crd(without_crd: subprocess.CompletedProcess[str]) -> None:
    assert without_crd.returncode == 2
    assert (
        "this cluster has no WhisperEndpoints: whisper-operator is not installed there" in without_crd.stderr
    )


def test_no_cluster(ann: User, tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text(json.dumps({"apiVersion": "v1", "kind": "Config"}))
    told = ann.run("status", "--kubeconfig", nowhere)
    assert told.returncode == 2
    assert "kubectl gets no answer from the cluster: " in told.stderr


def test_status(cluster: Cluster, ann: User) -> None:
    told = ann.run("status", "whisper")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(
        "WhisperEndpoint default/whisper: Ready\n  https://whisper.example.com (public)\n"
    )
    assert re.search(
        r"  Deployment whisper +1 of 1 ready\n    ReplicaSet whisper-\w+ +1 of 1 ready\n      Pod whisper-\S+ +Running\n",
        told.stdout,
    )
    assert re.search(r"  condition Ready +True \(Ready\)\n", told.stdout)
    both = ann.run("status", "-A")
    assert both.stdout.count(": Ready\n") == 2
    assert "there is no WhisperEndpoint nosuch" in ann.run("status", "nosuch").stderr


def test_status_says_what_is_wrong_first_and_watches(cluster: Cluster, ann: User) -> None:
    cluster.apply(endpoint("sick", model="tiny", accelerator={"type": "nvidia-none"}))
    watching = ann.start("status", "sick", "-w")
    try:
        told = eventually(
            lambda: done if (done := ann.run("status", "sick")).stdout.count("somebody has to act") else None,
            timeout=60,
            what="it is told",
        )
        time.sleep(3)
    finally:
        watching.send_signal(signal.SIGINT)
        watched = watching.communicate(timeout=30)[0].decode()
        cluster.kubectl("delete", "wep", "sick")
    assert told.returncode == 1
    head, details = told.stdout.splitlines()[:2]
    assert head == "WhisperEndpoint default/sick: somebody has to act: UnknownAccelerator"
    assert "nvidia-none" in details
    assert watching.returncode == 130
    assert re.search(r" s  condition Stalled +True \(UnknownAccelerator\)\n", watched)
    assert "Traceback" not in watched


def test_a_user_without_rights(cluster: Cluster, tmp_path: Path) -> None:
    cluster.kubectl("create", "serviceaccount", "eve")
    cluster.kubectl("create", "rolebinding", "eve", "--clusterrole=view", "--serviceaccount=default:eve")
    eve = user_of(cluster, cluster.kubeconfig_for("system:serviceaccount:default:eve", tmp_path / "eve"))
    told = eve.run("transcribe", HELLO, "--endpoint", "keyed")
    assert (told.returncode, told.stdout) == (2, "")
    assert "`kubectl auth can-i get secret/whisper-keys -n default` asks for it" in told.stderr
    asked = subprocess.run(
        ["kubectl", "auth", "can-i", "get", "secret/whisper-keys", "-n", "default"],
        env=eve.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.stdout == "no\n"
    told = eve.run("transcribe", HELLO, "--endpoint", "whisper")
    assert (told.returncode, told.stdout) == (1, "")
    assert "`kubectl auth can-i create pods --subresource=portforward -n default` asks for it" in told.stderr
    assert eve.run("status", "keyed").returncode == 0


def test_a_lost_connection_is_tried_again(cluster: Cluster, ann: User) -> None:
    """Nobody listens behind the pods yet."""
    told = ann.run("transcribe", HELLO, "--endpoint", "whisper")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.count("the connection was lost") == 2
    assert "the connection to the server was lost 3 times" in told.stderr


def test_transcription(server: Path, ann: User) -> None:
    told = ann.run("transcribe", HELLO, "--endpoint", "keyed")
    assert (told.returncode, told.stdout, told.stderr) == (0, SPOKEN["hello.wav"] + "\n", "")
    with HELLO.open("rb") as audio:
        told = ann.run("transcribe", "-", "--endpoint", "keyed", "--format", "srt", stdin=audio)
    assert told.stdout.startswith("1\n00:00:00,"), told.stderr
    told = ann.run(
        "transcribe", HELLO, "--endpoint", "keyed", "--format", "verbose_json", "--words", "--language", "en"
    )
    assert json.loads(told.stdout)["words"][0]["word"] == "hello"
    translated = ann.run("transcribe", HELLO, "--endpoint", "keyed", "--translate")
    assert translated.returncode == 0
    assert translated.stdout != SPOKEN["hello.wav"] + "\n"


def test_formats_are_what_the_server_itself_answers(server: Path, cluster: Cluster, ann: User) -> None:
    for format in ("text", "json", "srt", "vtt", "verbose_json"):
        command = [
            *("curl", "-sS", "-H", f"Authorization: Bearer {KEY}", "-F", f"file=@{HELLO}"),
            *(
                "-F",
                f"response_format={format}",
                f"http://127.0.0.1:{cluster.pod_port}/v1/audio/transcriptions",
            ),
        ]
        expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        told = ann.run("transcribe", HELLO, "--endpoint", "keyed", "--format", format).stdout
        assert (
            (json.loads(told), told[-1]) == (json.loads(expected), "\n")
            if "json" in format
            else told == expected
        )


def test_several_files_wait_for_their_turn_and_one_that_is_bad_stops_no_other(
    server: Path, ann: User, tmp_path: Path
) -> None:
    """The server has one place, so that it is busy all the time."""
    names = [
        tmp_path / each for each in ("the ünique first.wav", 'a "second".wav', "letter.txt", "third.flac")
    ]
    for name, content in zip(names, (HELLO, HELLO, ROOT / "README.md", FOX), strict=True):
        name.write_bytes(content.read_bytes())
    told = ann.run("transcribe", *names, "--endpoint", "keyed", "--output", tmp_path / "texts")
    assert (told.returncode, told.stdout) == (1, "")
    assert f"{names[2]}: it is not audio in an accepted format" in told.stderr
    assert {each.name: each.read_text().strip() for each in (tmp_path / "texts").iterdir()} == {
        "the ünique first.txt": SPOKEN["hello.wav"],
        'a "second".txt': SPOKEN["hello.wav"],
        "third.txt": SPOKEN["fox.flac"],
    }
    told = ann.run("transcribe", HELLO, FOX, "--endpoint", "keyed")
    assert told.stdout == (f"==> {HELLO} <==\n{SPOKEN['hello.wav']}\n\n==> {FOX} <==\n{SPOKEN['fox.flac']}\n")


def test_keys(server: Path, ann: User, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert ann.run("transcribe", HELLO, "--endpoint", "keyed", "--key-file", tmp_path / "key").returncode == 0
    own = User(ann.environment | {"WHISPER_API_KEY": "sk-wrong"})
    told = own.run("transcribe", HELLO, "--endpoint", "keyed")
    assert told.returncode == 1
    assert "this API key is not known" in told.stderr
    assert "the variable WHISPER_API_KEY" in told.stderr
    told = ann.run("transcribe", HELLO, "--endpoint", "keyed", "--client", "bob")
    assert "it is bob in Secret default/whisper-keys" in told.stderr
    assert KEY not in server.read_text() + told.stderr


def test_the_page_has_commands_that_work(server: Path, ann: User, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    found = texts("docs/kubectl-plugin.md", "sh")
    assert len(found) == 3
    for text in found:
        done = subprocess.run(
            # One server stands for all endpoints here, and asks for a key.
            ["sh", "-ec", text.replace("--endpoint whisper", "--endpoint keyed")],
            env=ann.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.vtt")} == {"hello.vtt", "fox.vtt"}


def test_half_an_hour_with_a_bar_on_a_terminal(server: Path, ann: User, tmp_path: Path) -> None:
    path = tmp_path / "half an hour.wav"
    silence = ("-af", "apad=whole_dur=1800", "-ar", "8000", "-c:a", "pcm_u8")
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-i", HELLO, *silence, path], check=True)
    terminal, other = pty.openpty()
    with subprocess.Popen(
        ["kubectl", "whisper", "transcribe", str(path), "--endpoint", "keyed"],
        env=ann.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=other,
    ) as process:  # fmt: skip
        os.close(other)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # closed
                break
        os.close(terminal)
        assert process.stdout is not None
        text = process.stdout.read().decode()
    assert process.returncode == 0, shown
    assert text.startswith("hello")
    lines = shown.decode().split("\r\x1b[K")
    assert any(" of 30:00  " in each for each in lines), lines
    assert lines[-1] == ""  # the bar is gone at the end


def test_too_large_a_file_is_refused_with_the_limit(server: Path, ann: User, tmp_path: Path) -> None:
    (tmp_path / "big.wav").write_bytes(bytes(27 << 20))
    told = ann.run("transcribe", tmp_path / "big.wav", "--endpoint", "keyed")
    assert told.returncode == 1
    assert "limits.maxUploadBytes of a WhisperEndpoint" in told.stderr


@pytest.mark.parametrize(
    ("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_command_ends_at_once_and_leaves_nothing(
    server: Path, cluster: Cluster, ann: User, tmp_path: Path, sign: signal.Signals, status: int
) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(HELLO)) as hello, wave.open(str(path), "wb") as long:
        long.setparams(hello.getparams())
        long.writeframes(hello.readframes(hello.getnframes()) * 150)
    process = ann.start("transcribe", path, "--endpoint", "keyed", "--output", tmp_path / "text")
    eventually(lambda: forwards(cluster), timeout=60, what="a port is forwarded")
    time.sleep(2)
    process.send_signal(sign)
    said = process.communicate(timeout=20)[0].decode()
    assert process.returncode == status
    assert "Traceback" not in said
    assert "kubectl-whisper:" not in said  # it may have waited, though, for the last one's place
    assert [each.name for each in tmp_path.iterdir()] == ["long.wav"]
