"""What the whole server does, asked over HTTP by many clients: decoding audio files, spectrograms and all."""

import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from whisper.audio import SAMPLE_RATE
from whisper_server.engine.interface import Samples

from benchmarks.gpu import material
from benchmarks.gpu.material import Setup

CLIENTS = {1: 8, 16: 64, 64: 320, 128: 512}
"""How many clients at once, and how many requests they make in all."""
START_SECONDS = 120


def run(setup: Setup, note: Callable[[str, Any], None]) -> None:
    """Note the speed for short files and for full windows."""
    shorts = [(path, len(material.samples_of(path)) / SAMPLE_RATE) for path in material.short_ones(setup)]
    fulls = [
        (_write(setup.folder / f"full-{number}.wav", samples), len(samples) / SAMPLE_RATE)
        for number, samples in enumerate(material.full_windows(setup))
    ]
    begin = time.perf_counter()
    with _server(setup) as url:
        note("ready", {"seconds": round(time.perf_counter() - begin, 1)})
        if setup.quick:
            note("short files, 2 clients", _load(url, shorts[:2], 2, 2))
            return
        _load(url, shorts, 64, 64)  # what is made at first use is there then
        for clients, count in CLIENTS.items():
            note(f"short files, {clients} clients", _load(url, shorts, clients, count))
        for clients in (64, 128):
            note(f"full windows, {clients} clients", _load(url, fulls, clients, 4 * clients))


def _write(path: Path, samples: Samples) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


@contextmanager
def _server(setup: Setup) -> Iterator[str]:
    port, ops_port = _free_port(), _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_")}
    environment |= {
        "WHISPER_MODEL": str(setup.model),
        "WHISPER_DEVICE": setup.device,
        "WHISPER_LANGUAGE": "en",
        "WHISPER_BIND": "127.0.0.1",
        "WHISPER_PORT": str(port),
        "WHISPER_OPS_PORT": str(ops_port),
        "WHISPER_MAX_QUEUE": "256",
    }
    log = setup.folder / f"server-{setup.shape}.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "whisper_server"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(ops_port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {log.read_text()[-1500:]}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def _load(url: str, files: Sequence[tuple[Path, float]], clients: int, count: int) -> dict[str, Any]:
    """A closed loop: each client sends its next file when the last is answered."""
    bodies = {path: path.read_bytes() for path, _ in files}
    waiting = iter([files[number % len(files)] for number in range(count)])
    guard = threading.Lock()
    times: list[float] = []
    problems: list[str] = []
    audio = [0.0]

    def client() -> None:
        with requests.Session() as session:
            while True:
                with guard:
                    path, seconds = next(waiting, (None, 0.0))
                if path is None:
                    return
                begin = time.perf_counter()
                try:
                    answer = session.post(
                        f"{url}/whisper", files={"file": (path.name, bodies[path])}, timeout=300
                    )
                    answer.raise_for_status()
                except requests.RequestException as problem:
                    problems.append(repr(problem)[:200])
                    continue
                with guard:
                    times.append(time.perf_counter() - begin)
                    audio[0] += seconds

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - begin
    ordered = sorted(times) or [float("nan")]
    return {
        "times_real_time": round(audio[0] / wall, 1),
        "files_a_second": round(len(times) / wall, 2),
        "p50": round(statistics.median(ordered), 3),
        "p95": round(ordered[round(0.95 * (len(ordered) - 1))], 3),
        "files": len(times),
        "lost": problems[:5] if len(problems) <= 5 else [*problems[:5], f"and {len(problems) - 5} more"],
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
