"""What people meet first: the command line, and the settings of an installation."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from whisper_operator.__main__ import main
from whisper_operator.config import ConfigError, load, parse

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text("server: {repository: registry.example.com/whisper-server, version: 0.1.0}\n")
    return str(path)


def test_render_prints_what_the_controller_would_apply(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "-f", str(ROOT / "examples" / "minimal.yaml"), "--config", config]) == 0
    kinds = [document["kind"] for document in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == [
        "BackendConfig",
        "NetworkPolicy",
        "Service",
        "Deployment",
        "ManagedCertificate",
        "Ingress",
    ]


def test_render_says_what_is_wrong_with_one_endpoint_and_prints_the_others(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.yaml"
    version = "whisper-operator.io/v1alpha1"
    old = {"apiVersion": "v1", "kind": "WhisperEndpoint", "metadata": {"name": "old"}, "spec": {}}
    bad = {
        "apiVersion": version,
        "kind": "WhisperEndpoint",
        "metadata": {"name": "bad"},
        "spec": {"replicas": "x"},
    }
    good = {"apiVersion": version, "kind": "WhisperEndpoint", "metadata": {"name": "good"}, "spec": {}}
    other = {"kind": "ConfigMap", "metadata": {"name": "other"}}
    path.write_text(yaml.safe_dump_all([bad, None, other, {"kind": "List", "items": [old, good]}]))
    assert main(["render", "-f", str(path), "--config", config]) == 1
    captured = capsys.readouterr()
    assert (
        f"{path}: document 4: items[0]: WhisperEndpoint old: InvalidSpec: apiVersion must be" in captured.err
    )
    assert (
        f"{path}: document 1: WhisperEndpoint bad: InvalidSpec: spec.replicas: 'x' is not of type 'integer'"
        in captured.err
    )
    assert [each["metadata"]["name"] for each in yaml.safe_load_all(captured.out)] == ["good"] * 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "broken.yaml"),
        ("- 1\n", "no mapping but list"),
        ("kind: Service\n", "there is no WhisperEndpoint in it"),
        (None, "No such file"),
    ],
)
def test_render_of_no_endpoint_at_all(
    content: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.yaml"
    if content is not None:
        path.write_text(content)
    assert main(["render", "-f", str(path)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], r"must be a mapping"),
        ({"sever": {}}, "sever is not a setting; the settings here are accelerators, autopilot"),
        ({"server": {"repository": "r"}}, "set both, or none"),
        ({"workers": "many"}, "workers must be a whole number, not 'many'"),
        ({"workers": True}, "workers must be a whole number, not True"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"maxRollouts": 0}, "maxRollouts must be at least 1"),
        ({"paused": "yes"}, "paused must be true or false, not 'yes'"),
        ({"logLevel": "loud"}, "logLevel must be one of debug, info, warning, error, not 'loud'"),
        ({"accelerators": {"x": {"labels": {}}}}, "accelerators.x.labels is not a setting"),
        ({"accelerators": {"x": {"tolerations": [1]}}}, "tolerations"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(raw: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(raw)


def test_the_configuration_that_is_installed_is_valid_with_every_comment_taken_off(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "base" / "config.yaml").read_text()
    path = tmp_path / "config.yaml"
    path.write_text(text)
    load(path)
    lines = [re.sub(r"^#(?! \S)", "", line) for line in text.splitlines()]
    path.write_text("\n".join(lines))
    settings = load(path)
    assert (
        settings.server_image("openai-whisper", "turbo")
        == "registry.example.com/whisper-server:0.1.0-openai-whisper-turbo"
    )
    assert "rtx-4090" in settings.accelerators
    assert "nvidia-tesla-t4" in settings.accelerators


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("server: {version: 2026-13-45}", "month must be in 1..12"),
        ("[" * 3000, "recursion"),
    ],
)
def test_a_configuration_that_cannot_be_read_stops_with_one_line(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    assert main(["run", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"whisper-operator: cannot read {path}: ")
    assert words in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken_stops_the_start_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path / "kubeconfig", KUBECONFIG, monkeypatch)
    path = tmp_path / "config.yaml"
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        path.write_text(f"healthPort: {other.getsockname()[1]}\n")
        assert main(["run", "--config", str(path)]) == 2
    assert "cannot listen on healthPort" in capsys.readouterr().err


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {}}]
"""


def use(path: Path, kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(kubeconfig)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(path))


def test_run_without_a_kubeconfig_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    assert main(["run"]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"whisper-operator: no cluster to work for: there is no {tmp_path}/nowhere; let KUBECONFIG name a kubeconfig\n"
    )


@pytest.mark.parametrize("text", ["a: [", "[]", "apiVersion: v1\nkind: Config\n"])
def test_a_kubeconfig_that_makes_no_sense_is_named_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path / "kubeconfig", text, monkeypatch)
    assert main(["run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"whisper-operator: cannot use the kubeconfig {tmp_path}/kubeconfig: ")
    assert "Traceback" not in said


def test_a_part_that_fails_ends_the_process_whatever_still_waits() -> None:
    """For Kubernetes to start it anew."""
    code = (
        "import asyncio, threading; from whisper_operator import __main__, controller\n"
        "async def run(*_):\n"
        "    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)\n"
        "    raise RuntimeError('broken')\n"
        "controller.run = run\n"
        "__main__.main(['run'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    line = json.loads(done.stderr)
    assert (line["level"], line["message"]) == ("CRITICAL", "The operator failed, ending")
    assert "RuntimeError: broken" in line["exc_info"]
