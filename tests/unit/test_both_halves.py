"""What the operator tells the server is what the server understands: every variable, and every value."""

import importlib
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "tests" / "unit" / "golden" / "examples").glob("*.yaml"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The server's settings, which need nothing but Python: the rest of it lives in an environment of its own."""
    monkeypatch.syspath_prepend(ROOT / "server")
    return importlib.import_module("whisper_server.config")


@pytest.mark.parametrize("example", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_the_server_understands_what_it_is_told(server: ModuleType, example: Path) -> None:
    (deployment,) = (each for each in yaml.safe_load(example.read_text()) if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    known = {server.variable(entry) for entry in fields(server.Settings)}
    for container in (*pod.get("initContainers", []), *pod["containers"]):
        environment = {item["name"]: item["value"].replace("$$", "$") for item in container["env"]}
        told = {name for name in environment if name.startswith("WHISPER_")}
        assert told <= known
        settings = server.Settings.from_environ(environment)
        assert str(settings.port) == environment["WHISPER_PORT"]
        assert settings.vad is (environment.get("WHISPER_VAD") == "true")
        assert settings.api_keys_dir == environment.get("WHISPER_API_KEYS_DIR")


def test_the_server_takes_every_number_and_engine_of_the_contract(server: ModuleType) -> None:
    crd = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    for engine in spec["engine"]["enum"]:
        for number in spec["computeType"]["enum"]:
            impossible = "bfloat16" if engine == "faster-whisper" else "int8"
            if not number.startswith(impossible):
                told = {"WHISPER_ENGINE": engine, "WHISPER_DTYPE": number, "WHISPER_DEVICE": "cuda"}
                server.Settings.from_environ(told)
