"""A real Prometheus that scrapes the operator and a server, each with the labels that it would have in a cluster."""

import json
import math
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devcluster import processes
from devcluster.ports import free_ports
from devcluster.waiting import eventually
from tests.ship.programs import program

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "examples" / "audio"


@dataclass(frozen=True)
class Sample:
    """One line of an instant query's answer."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **fields: str) -> Any:
        """What its HTTP API answers. Raises AssertionError with Prometheus's own words where it refuses."""
        body = urllib.parse.urlencode(fields).encode() if fields else None
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}", data=body, timeout=60) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {fields}: {error.read().decode()}") from None
        assert said["status"] == "success", said
        assert not said.get("warnings"), said["warnings"]
        assert not [each for each in said.get("infos", []) if "range" not in each], said["infos"]
        return said["data"]

    def query(self, expression: str) -> list[Sample]:
        """What it is now."""
        found = self.ask("query", query=expression)
        assert found["resultType"] == "vector", expression
        return [Sample(each["metric"], float(each["value"][1])) for each in found["result"]]

    def numbers(self, expression: str) -> list[Sample]:
        """Those of it that are a number."""
        return [each for each in self.query(expression) if not math.isnan(each.value)]

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, targets: Mapping[int, Mapping[str, str]], rules: Path) -> Iterator[Prometheus]:
    """One that scrapes ports of 127.0.0.1 and evaluates these rules. `targets`: labels by port."""
    scraped = [{"targets": [f"127.0.0.1:{each}"], "labels": dict(labels)} for each, labels in targets.items()]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "whisper", "static_configs": scraped}],
    }
    with prometheus_by(folder, config) as found:
        yield found


@contextmanager
def prometheus_by(folder: Path, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    """One with this configuration."""
    (port,) = free_ports(1)
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(config)))
    command = [
        str(program("prometheus")),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus-data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(folder, "prometheus", command):
        found = Prometheus(port)
        eventually(found.is_up, timeout=120, what="Prometheus answers")
        yield found


@contextmanager
def whisper_server(folder: Path) -> Iterator[tuple[int, int]]:
    """The real server with the demo model; its ports of the API and of operations."""
    port, ops = free_ports(2)
    settings = {
        "WHISPER_MODEL": "demo",
        "WHISPER_DEVICE": "cpu",
        "WHISPER_BIND": "127.0.0.1",
        "WHISPER_PORT": str(port),
        "WHISPER_OPS_PORT": str(ops),
        "OMP_NUM_THREADS": "1",
    }
    with running(folder, "server", [str(ROOT / ".venv-server" / "bin" / "whisper-server")], settings):
        eventually(
            lambda: status(f"http://127.0.0.1:{ops}/readyz") == "200", timeout=180, what="the server is ready"
        )
        yield port, ops


@contextmanager
def running(
    folder: Path, name: str, command: list[str], settings: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A process that ends with the block, and with the cluster at the latest."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=processes.environment(folder) | dict(settings or {}),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def status(url: str, *files: Path) -> str:
    """Of the answer to a request with these files; 000 where nothing answers."""
    forms = [word for file in files for word in ("-F", f"file=@{file}")]
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "120", *forms, url]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
