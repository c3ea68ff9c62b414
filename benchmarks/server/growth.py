"""Whether the server grows: ten thousand requests one after the other, and what its process holds after each thousand.

.venv-server/bin/python -m benchmarks.server.growth [--requests 10000] [--engine openai-whisper]

The exit status is 1 if it holds more than 5 % more memory at the end than after the first tenth, or if a request failed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.server.overload import CLIENTS, CLIP, Answers, ask, request, resident
from tests.server.whisper_process import WhisperProcess, running

STEPS = 10
MOST_GROWTH = 1.05


async def send(port: int, message: bytes, count: int, answers: Answers) -> None:
    """So many requests by a few clients, each after its last one's answer."""
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            await ask(port, message, answers)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def worker_memory(server: WhisperProcess) -> int:
    """Resident bytes of the worker."""
    return resident(Path(f"/proc/{server.worker()}/status"))


def has_grown(memory: Sequence[int]) -> bool:
    """Whether the last figure is too large beside the one after the first tenth; the one before that is from the start."""
    return memory[-1] > MOST_GROWTH * memory[1]


def holds(server: WhisperProcess, memory: int) -> str:
    """Memory, open files, threads and temporary files of the worker."""
    process = Path(f"/proc/{server.worker()}")
    files, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
    left = sum(path.is_file() for path in server.tmp.rglob("*"))
    return f"{memory / 2**20:8.1f} MiB {files:5} open files {threads:5} threads {left:5} temporary files"


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--engine", default="openai-whisper")
    options = parser.parse_args()
    message, answers, memory = request(CLIP.read_bytes()), Answers(), list[int]()
    settings = {"WHISPER_MODEL": options.model, "WHISPER_ENGINE": options.engine}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), **settings) as server:
        server.wait_until_ready()
        for step in range(STEPS + 1):
            if step:
                asyncio.run(send(server.port, message, options.requests // STEPS, answers))
            memory.append(worker_memory(server))
            print(f"{step * options.requests // STEPS:6} requests {holds(server, memory[-1])}", flush=True)
    print(f"statuses {dict(answers.statuses)}")
    if set(answers.statuses) != {200}:
        print("not all requests were answered with 200: the figures say little")
        return 1
    if has_grown(memory):
        print(
            f"grown by {memory[-1] / memory[1] - 1:.1%} since the first tenth; at most {MOST_GROWTH - 1:.0%} is allowed"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
