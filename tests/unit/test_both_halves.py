"""What the operator tells the server is what the server understands: every variable, and every value."""

import importlib
import re
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from whisper_operator.accelerators import Accelerator

from tests.unit.making import SETTINGS, made

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    pytest.param(resource["spec"], id=path.stem)
    for path in sorted((ROOT / "examples").glob("*.yaml"))
    for resource in yaml.safe_load_all(path.read_text())
    if resource["kind"] == "WhisperEndpoint"
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The server's settings, which need nothing but Python: the rest of it lives in an environment of its own."""
    monkeypatch.syspath_prepend(ROOT / "server")
    return importlib.import_module("whisper_server.config")


@pytest.mark.parametrize("spec", EXAMPLES)
def test_the_server_understands_what_it_is_told(server: ModuleType, spec: dict[str, Any]) -> None:
    gpus = {"rtx-4090": Accelerator({"gpu": "rtx-4090"})}
    settings = replace(SETTINGS, accelerators={**SETTINGS.accelerators, **gpus})
    pod = made(spec, settings=settings)["Deployment/whisper"]["spec"]["template"]["spec"]
    known = {server.variable(entry) for entry in fields(server.Settings)}
    for container in (*pod.get("initContainers", []), *pod["containers"]):
        environment = {item["name"]: item["value"].replace("$$", "$") for item in container["env"]}
        told = {name for name in environment if name.startswith("WHISPER_")}
        assert told <= known
        understood = server.Settings.from_environ(environment)
        assert str(understood.port) == environment["WHISPER_PORT"]
        assert understood.vad is (environment.get("WHISPER_VAD") == "true")
        assert understood.api_keys_dir == environment.get("WHISPER_API_KEYS_DIR")


def words(field: dict[str, Any]) -> list[str]:
    """What a field takes, by its rule: `self in ['a', 'b']`."""
    (rule,) = field["x-kubernetes-validations"]
    found = re.findall(r"'([^']+)'", rule["rule"])
    assert len(found) > 1
    return found


def test_the_server_takes_every_number_and_engine_of_the_contract(server: ModuleType) -> None:
    crd = yaml.safe_load((ROOT / "crds" / "whisperendpoints.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    for engine in words(spec["engine"]):
        for number in words(spec["computeType"]):
            impossible = "bfloat16" if engine == "faster-whisper" else "int8"
            if not number.startswith(impossible):
                told = {"WHISPER_ENGINE": engine, "WHISPER_DTYPE": number, "WHISPER_DEVICE": "cuda"}
                server.Settings.from_environ(told)
