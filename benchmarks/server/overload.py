"""Ten times too many requests: what the server still does, what it answers, and whether it loses any.

    PYTHONPATH=server .venv-server/bin/python -m benchmarks.server.overload [--seconds 60] [--factor 10] [--shape base] ...

First as many clients as keep the server busy, one request after the other each: that is its capacity. Then requests at a
fixed rate, `factor` times that, whatever the answers; then the same again with SIGTERM in the middle. The load comes from this
process, on the same machine: on few cores it takes its share of both measurements.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.server.whisper_process import EXAMPLES, WhisperProcess, running

CLIP = EXAMPLES / "hello.wav"
CLIENTS = 8
LOST = 0
"""In place of a status: no answer came."""
UNANSWERED = -2
"""In place of a status: no answer came, or not all of it, though the server had begun with the request."""
NOT_CONNECTED = -1
"""In place of a status: the server did not take the connection."""


@dataclass
class Answers:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of those answered with 200."""
    last: float = 0.0
    """When the last of these came, as a time.monotonic()."""

    def add(self, status: int, seconds: float) -> None:
        """One more."""
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(seconds)
            self.last = time.monotonic()


def request(clip: bytes) -> bytes:
    """A whole HTTP request with a file, for which the server says when it begins with it."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    language = b'\r\n--b\r\nContent-Disposition: form-data; name="language"\r\n\r\nen\r\n--b--\r\n'
    body = head + clip + language
    return (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: test\r\nConnection: close\r\nExpect: 100-continue\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def ask(port: int, message: bytes, answers: Answers) -> None:
    """Send it on a connection of its own, and note the answer."""
    begin = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        answers.add(NOT_CONNECTED, 0)
        return
    status = LOST
    try:
        writer.write(message)  # goes on while the first line is read
        line = await reader.readline()
        if line.startswith(b"HTTP/1.1 100 "):
            status = UNANSWERED
            await reader.readline()
            line = await reader.readline()
        await reader.read()
        status = int(line.split(b" ", 2)[1]) if line else status
    except OSError:
        pass
    finally:
        writer.close()
    answers.add(status, time.monotonic() - begin)


async def closed_loop(port: int, message: bytes, clients: int, seconds: float) -> tuple[Answers, float]:
    """So many clients, each asking again once it has its answer; what came back, and answers with 200 a second."""
    answers, end = Answers(), time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            await ask(port, message, answers)

    begin = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return answers, answers.statuses[200] / max(1e-9, answers.last - begin)


async def open_loop(
    port: int, message: bytes, rate: float, seconds: float, halfway: Callable[[], None] = lambda: None
) -> tuple[Answers, float]:
    """So many requests a second, whatever comes back; `halfway` is called in the middle."""
    answers, tasks, begin = Answers(), set[asyncio.Task[None]](), time.monotonic()
    called = False
    while (now := time.monotonic() - begin) < seconds:
        if not called and now > seconds / 2:
            called = True
            halfway()
        # As many as are due by now: a late generator catches up.
        for _ in range(int(now * rate) - sum(answers.statuses.values()) - len(tasks)):
            task = asyncio.create_task(ask(port, message, answers))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    # What is still queued at the end counts, and so does the time that it takes: the server is busy until then.
    return answers, answers.statuses[200] / max(1e-9, answers.last - begin)


def probe(url: str, stop: Any, found: Any) -> None:
    """Time /healthz twenty times a second, until told to stop; in a process of its own."""
    times: list[float] = []
    while not stop.is_set():
        begin = time.monotonic()
        with urllib.request.urlopen(url, timeout=30) as answer:
            answer.read()
        times.append(time.monotonic() - begin)
        time.sleep(0.05)
    found.put(times)


def resident(status: Path) -> int:
    """Bytes of memory, from a process's file of that name in /proc."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def watch_memory(server: WhisperProcess, found: list[int]) -> None:
    """The worker's resident memory in bytes, every half second until cancelled."""
    status = Path(f"/proc/{server.worker()}/status")
    while True:
        found.append(resident(status))
        await asyncio.sleep(0.5)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run. Rates are answers with 200 a second, times are seconds, memory is bytes."""

    capacity: float
    rate: float
    accepted: float
    answers: Answers
    healthz: list[float]
    memory: list[int]
    drained: Answers
    exit_status: int
    logged: Counter[str]
    """Answers to the requests of the last part, by status, as the server's access log has them."""


def measure(directory: Path, seconds: float, factor: float, **environment: str) -> Result:
    """Run it all."""
    message = request(CLIP.read_bytes())
    with running(directory, WHISPER_LOG_FORMAT="json", **environment) as server:
        server.wait_until_ready()
        stop = multiprocessing.Event()
        found: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
        arguments = (server.ops_url + "/healthz", stop, found)
        prober = multiprocessing.get_context("fork").Process(target=probe, args=arguments, daemon=True)

        async def load() -> tuple[float, float, Answers, float, list[int]]:
            await closed_loop(server.port, message, CLIENTS, min(5, seconds))  # warm
            _, capacity = await closed_loop(server.port, message, CLIENTS, seconds / 2)
            memory: list[int] = []
            watcher = asyncio.create_task(watch_memory(server, memory))
            prober.start()
            answers, accepted = await open_loop(server.port, message, factor * capacity, seconds)
            watcher.cancel()
            return capacity, factor * capacity, answers, accepted, memory

        capacity, rate, answers, accepted, memory = asyncio.run(load())
        stop.set()
        healthz = found.get(timeout=60)
        prober.join()
        before = len(server.log.splitlines())
        drained, _ = asyncio.run(open_loop(server.port, message, rate, min(10, seconds), server.terminate))
        status = server.wait()
        entries = [json.loads(line) for line in server.log.splitlines()[before:]]
    logged = Counter(entry["status"] for entry in entries if entry["logger"] == "gunicorn.access")
    return Result(
        capacity=capacity,
        rate=rate,
        accepted=accepted,
        answers=answers,
        healthz=healthz,
        memory=memory,
        drained=drained,
        exit_status=status,
        logged=logged,
    )


def growth(memory: list[int]) -> float:
    """How much larger the last quarter's memory is than the second's; the first is warming up."""
    quarter = max(1, len(memory) // 4)
    return statistics.median(memory[-quarter:]) / statistics.median(memory[quarter : 2 * quarter] or memory)


def percentile(values: list[float], percent: float) -> float:
    """The value below which so many percent lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--factor", type=float, default=10)
    parser.add_argument("--model", default="demo", help="a name or a path")
    parser.add_argument("--shape", help="widen the demo model to the size of this one instead, such as base")
    parser.add_argument("--engine", choices=("openai-whisper", "faster-whisper"), default="openai-whisper")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        model = options.model
        if options.shape:
            from benchmarks.server import shapes  # with PYTHONPATH=server, which the tests have not

            model = shapes.openai_whisper(options.shape, Path(directory))
            model = shapes.ctranslate2(model) if options.engine == "faster-whisper" else model
        settings = {"WHISPER_MODEL": str(model), "WHISPER_ENGINE": options.engine}
        result = measure(Path(directory), options.seconds, options.factor, **settings)
    answered = sum(result.answers.statuses.values())
    print(f"capacity, {CLIENTS} clients in turn       {result.capacity:8.2f} answers/s")
    print(f"requests sent                      {result.rate:8.2f} /s ({answered} in {options.seconds:g} s)")
    print(
        f"accepted                           {result.accepted:8.2f} answers/s ({result.accepted / result.capacity:.0%})"
    )
    print(f"statuses                           {dict(result.answers.statuses)}")
    print(f"seconds of an accepted request     p50 {percentile(result.answers.seconds, 50):.2f}", end=" ")
    print(f"p95 {percentile(result.answers.seconds, 95):.2f}")
    print(f"/healthz                           p50 {percentile(result.healthz, 50) * 1000:.1f} ms", end=" ")
    print(f"p99 {percentile(result.healthz, 99) * 1000:.1f} ms")
    print(
        f"memory                             {max(result.memory) / 2**20:.0f} MiB, growth {growth(result.memory):.3f}"
    )
    print(
        f"SIGTERM in the middle              clients {dict(result.drained.statuses)}, server {dict(result.logged)}",
        end=" ",
    )
    print(f"exit status {result.exit_status}")


if __name__ == "__main__":
    main()
