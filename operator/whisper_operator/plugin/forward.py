"""`kubectl port-forward` to an endpoint's Service: a process for each connection, as it ends with the first that fails."""

import contextlib
import queue
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Self

from whisper_operator.plugin.endpoint import Endpoint
from whisper_operator.plugin.failure import Failure
from whisper_operator.plugin.kubectl import FORBIDDEN, Kubectl, complaint, refusal

START_SECONDS = 60.0
END_SECONDS = 5.0
PORT = 8000
_LISTENS = re.compile(rb"^Forwarding from 127\.0\.0\.1:(\d+) -> ")


class Forwards:
    """All that run; when this is left, none does."""

    def __init__(self, kubectl: Kubectl, endpoint: Endpoint) -> None:
        self._kubectl, self._endpoint = kubectl, endpoint
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            _end(process)

    @contextlib.contextmanager
    def open(self) -> Iterator[str]:
        """A URL of this machine that leads to the endpoint. Raises Failure with what kubectl says."""
        with tempfile.TemporaryFile() as said:
            process = self._start(said)
            try:
                assert process.stdout is not None  # noqa: S101  # asked for
                ports: queue.Queue[int | None] = queue.Queue()
                threading.Thread(target=_read, args=(process.stdout, ports), daemon=True).start()
                try:
                    port = ports.get(timeout=START_SECONDS)
                except queue.Empty:
                    port = None
                if port is None:
                    raise self._failure(said)
                yield f"http://127.0.0.1:{port}"
            finally:
                _end(process)
                with self._lock:
                    self._running.discard(process)

    def _start(self, said: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise Failure("interrupted")
            process = self._kubectl.start(
                "port-forward",
                f"--namespace={self._endpoint.namespace}",
                "--address=127.0.0.1",
                "--pod-running-timeout=20s",
                f"service/{self._endpoint.name}",
                f":{PORT}",
                stderr=said,
            )
            self._running.add(process)
            return process

    def _failure(self, said: IO[bytes]) -> Failure:
        said.seek(0)
        words = said.read().decode(errors="replace")
        namespace = self._endpoint.namespace
        if refusal(words).reason == FORBIDDEN:
            return Failure(
                f"you may not forward a port to WhisperEndpoint {self._endpoint.title}: {complaint(words)}\n"
                f"`kubectl auth can-i create pods --subresource=portforward -n {namespace}` asks for it; so does the role edit. "
                "A public endpoint needs no such right with --url."
            )
        return Failure(
            f"kubectl port-forward to WhisperEndpoint {self._endpoint.title} failed: {complaint(words) or 'it says nothing'}"
        )


def _read(output: IO[bytes], ports: "queue.Queue[int | None]") -> None:
    """All of it: kubectl would wait for ever to write a line that nobody reads."""
    with output:
        for line in output:
            if found := _LISTENS.match(line):
                ports.put(int(found[1]))
    ports.put(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
