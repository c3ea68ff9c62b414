"""The servers that are compared, each a process of its own that really serves HTTP."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Kind:
    """How to start one."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def kinds(checkpoint: Path, converted: Path, before: Path | None = None) -> list[Kind]:
    """All of them on the same weights: openai-whisper's file, and CTranslate2's directory made of it.

    `before`: a checkout of an earlier commit, whose server is measured beside this one's.
    """
    howto = ("gunicorn", "-w", "1", "-t", "3600", "benchmarks.server.peers.howto:app")
    faster = ("gunicorn", "-w", "1", "--threads", "32", "-t", "3600", "benchmarks.server.peers.faster:app")
    ours = [
        *(_ours(checkpoint, "openai-whisper", dtype) for dtype in ("float32", "bfloat16")),
        *(_ours(converted, "faster-whisper", dtype) for dtype in ("float32", "int8")),
    ]
    return [
        Kind("how-to app", howto, {"MODEL": str(checkpoint)}),
        *(
            Kind(f"faster-whisper app {kind}", faster, {"MODEL": str(converted), "COMPUTE_TYPE": kind})
            for kind in ("float32", "int8")
        ),
        *(each for kind in ours for each in ([kind, _earlier(kind, before)] if before else [kind])),
    ]


def _earlier(kind: Kind, checkout: Path) -> Kind:
    """The same with the server of another checkout, which comes before what is installed."""
    return replace(
        kind,
        name=f"before {kind.name.removeprefix('ours ')}",
        command=(Path(sys.executable).name, "-m", "whisper_server"),
        environment={**kind.environment, "PYTHONPATH": str(checkout.resolve() / "server")},
    )


def _ours(model: Path, engine: str, dtype: str) -> Kind:
    settings = {
        "WHISPER_MODEL": str(model),
        "WHISPER_ENGINE": engine,
        "WHISPER_DTYPE": dtype,
        "WHISPER_DEVICE": "cpu",
        "WHISPER_LANGUAGE": "en",
        "WHISPER_MAX_QUEUE": "64",
        "WHISPER_MAX_UPLOAD_BYTES": str(1 << 30),
        "WHISPER_REQUEST_TIMEOUT_SECONDS": "3600",
    }
    return Kind(f"ours {engine} {dtype}", ("whisper-server",), settings)


class Server:
    """One that runs."""

    def __init__(self, kind: Kind, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name, self.url = kind.name, f"http://127.0.0.1:{port}"
        self._process, self._log = process, log

    def wait_until_ready(self, seconds: float = 300) -> None:
        """Wait until it takes requests; RuntimeError with its log if it ends before."""
        deadline = time.monotonic() + seconds
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()[-2000:]}")
            try:
                # Only the path exists: a peer answers 405 once its model is loaded, ours 503 before that.
                if requests.post(self.url + "/whisper", timeout=60).status_code < 500:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.2)

    def peak_memory(self) -> int:
        """Bytes, of all its processes."""
        total, waiting = 0, [self._process.pid]
        while waiting:
            pid = waiting.pop()
            status = Path(f"/proc/{pid}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            total += int(peak.split()[1]) << 10
            waiting += [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return total


@contextmanager
def running(kind: Kind, folder: Path) -> Iterator[Server]:
    """Start one; it may still be loading. It is gone afterwards."""
    port, other = _free_port(), _free_port()
    log = folder / f"{kind.name}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_")}
    environment |= {**kind.environment, "WHISPER_BIND": "127.0.0.1", "WHISPER_PORT": str(port)}
    environment |= {"WHISPER_OPS_PORT": str(other), "HF_HUB_OFFLINE": "1"}
    program, *arguments = kind.command
    if program == "gunicorn":
        arguments += ["--bind", f"127.0.0.1:{port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(BIN / program), *arguments], env=environment, cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield Server(kind, port, process, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
