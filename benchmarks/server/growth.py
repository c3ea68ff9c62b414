"""Whether the server grows: ten thousand requests one after the other, and what its process holds after each thousand.

.venv-server/bin/python -m benchmarks.server.growth [--requests 10000] [--engine openai-whisper]
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks.server.overload import CLIENTS, CLIP, Answers, ask, request, resident
from tests.server.whisper_process import WhisperProcess, running

STEPS = 10


async def send(port: int, message: bytes, count: int, answers: Answers) -> None:
    """So many requests by a few clients, each after its last one's answer."""
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            await ask(port, message, answers)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def holds(server: WhisperProcess) -> str:
    """Memory, open files, threads and temporary files of the worker."""
    process = Path(f"/proc/{server.worker()}")
    files, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
    left = sum(path.is_file() for path in server.tmp.rglob("*"))
    return f"{resident(process / 'status') / 2**20:8.1f} MiB {files:5} open files {threads:5} threads {left:5} temporary files"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--engine", default="openai-whisper")
    options = parser.parse_args()
    message, answers = request(CLIP.read_bytes()), Answers()
    settings = {"WHISPER_MODEL": options.model, "WHISPER_ENGINE": options.engine}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), **settings) as server:
        server.wait_until_ready()
        print(f"{0:6} requests {holds(server)}", flush=True)
        for step in range(1, STEPS + 1):
            asyncio.run(send(server.port, message, options.requests // STEPS, answers))
            print(f"{step * options.requests // STEPS:6} requests {holds(server)}", flush=True)
    print(f"statuses {dict(answers.statuses)}")


if __name__ == "__main__":
    main()
