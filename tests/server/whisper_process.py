"""Starts the real server as users do, and talks to it over HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "audio"
CLIPS = Path(__file__).parent / "clips"
COMMAND = (str(Path(sys.executable).parent / "whisper-server"),)
START_SECONDS = 240  # generous: torch is large, and the machine may be busy

Part = tuple[str, tuple[str, bytes]]  # field name, (file name, content)


class WhisperProcess:
    """One running server, its private temporary directory and its log."""

    def __init__(self, directory: Path, settings: Mapping[str, str], command: Sequence[str]) -> None:
        self.port, self.ops_port = free_port(), free_port()
        self.url, self.ops_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.ops_port}"
        self.tmp = directory / "tmp"
        self.tmp.mkdir()
        self._log = directory / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_")}
        environment |= {
            "WHISPER_MODEL": "demo",
            "WHISPER_DEVICE": "cpu",
            "WHISPER_BIND": "127.0.0.1",
            "WHISPER_PORT": str(self.port),
            "WHISPER_OPS_PORT": str(self.ops_port),
            "TMPDIR": str(self.tmp),
            # Waiting OpenMP threads spin: on a busy machine that is slower than one thread. Empty: as many as the server chooses.
            "OMP_NUM_THREADS": "1",
            **settings,
        }
        if not environment["OMP_NUM_THREADS"]:
            del environment["OMP_NUM_THREADS"]
        # The signal: nothing is to be left running when the tests are killed.
        guard = ["setpriv", "--pdeathsig", "TERM", "--"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*guard, *command], env=environment, stderr=log, stdout=log, cwd="/"
            )

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return self._log.read_text()

    def wait_until_ready(self) -> None:
        """Wait for /readyz to say so; fails with the log."""
        deadline = time.monotonic() + START_SECONDS
        while self.ops("/readyz") != 200:
            assert self.process.poll() is None, f"ended with status {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"not ready in time:\n{self.log}"
            time.sleep(0.1)

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(START_SECONDS)

    def terminate(self) -> None:
        """Ask the server to drain and end."""
        self.process.send_signal(signal.SIGTERM)

    def ops(self, path: str) -> int:
        """The status of a path of the operations port; 0 while nothing listens there."""
        try:
            return requests.get(self.ops_url + path, timeout=10).status_code
        except requests.ConnectionError:
            return 0

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = requests.get(self.ops_url + "/metrics", timeout=10).text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(name + " ")))

    def post(self, *parts: Part, **options: Any) -> requests.Response:
        """Send files to /whisper as one multipart request."""
        return requests.post(self.url + "/whisper", files=list(parts) or None, timeout=300, **options)

    def transcript(self, path: Path) -> str:
        """Send one file and return what was said in it."""
        response = self.post(part(path))
        assert response.status_code == 200, response.text
        (result,) = response.json()["results"]
        assert result["filename"] == path.name
        return str(result["transcript"])

    def worker(self) -> int:
        """The process that owns the model."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def open_temporary_files(self) -> list[str]:
        """Files without a name that the worker still holds."""
        links = []
        for entry in Path(f"/proc/{self.worker()}/fd").iterdir():
            try:
                target = os.readlink(entry)
            except FileNotFoundError:
                continue
            # gunicorn's heartbeat is a nameless file as well.
            if target.startswith(str(self.tmp)) and "wgunicorn-" not in target:
                links.append(target)
        return links


@contextmanager
def running(directory: Path, command: Sequence[str] = COMMAND, **settings: str) -> Iterator[WhisperProcess]:
    """Run a server with some settings; it may still be loading. It is gone afterwards."""
    server = WhisperProcess(directory, settings, command)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGQUIT)
            try:
                server.process.wait(20)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def part(path: Path, field: str = "file") -> Part:
    """One file of a multipart request."""
    return field, (path.name, path.read_bytes())


def table(path: Path) -> dict[str, str]:
    """A tab-separated file of (file, text), as a mapping."""
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return dict(rows)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg to make a file."""
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)
