"""How much audio each server transcribes in a second, on the same machine and weights, side by side.

    PYTHONPATH=server .venv-server/bin/python -m benchmarks.server.throughput

Needs the dependency group benchmark-server; --help lists the options.

A closed loop: each client sends its next file when the last is answered. One server works at a time; they take turns within each
round, so that what else the machine does meets all of them. Writes docs/benchmarks/server-throughput.{json,csv,svg}.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jiwer
import requests

from benchmarks.server import report, shapes, speech, tokenizer_file
from benchmarks.server.servers import Kind, Server, kinds, running

OPENAI, BATCHED = "/v1/audio/transcriptions", "/batched"


@dataclass(frozen=True)
class Measurement:
    """One server under one load in one round. Times in seconds."""

    server: str
    clients: int
    round: int
    speed: float
    """Seconds of audio transcribed in a second."""
    p50: float
    p95: float
    word_error_rate: float
    load_average: float
    """Of the machine, when this began."""


def main() -> None:
    options = _options()
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        chosen = [kind for kind in _kinds(folder, options.shape, options.before) if options.only in kind.name]
        chosen = [kind for kind in chosen if not (options.beams and " app" in kind.name)]
        servers = [_ready(stack, kind, folder) for kind in chosen]
        recordings = speech.short_ones(32, folder)
        for number in range(options.rounds):
            for clients in options.clients:
                for server in servers:
                    found = _measure(server, clients, number, recordings, options.beams)
                    measurements.append(found)
                    print(
                        f"{found.server:<28} {clients:>2} clients: {found.speed:6.2f} x real time, "
                        f"p50 {found.p50:6.2f} s, p95 {found.p95:6.2f} s, WER {found.word_error_rate:.2%}",
                        flush=True,
                    )
        long = _measure_long(servers, speech.long_one(options.long, folder)) if options.long else []
        memory = {server.name: server.peak_memory() for server in servers}
    result = {
        "machine": {"cpus": os.cpu_count(), "model": _processor()},
        "shape": options.shape,
        "short": [asdict(each) for each in measurements],
        "long": long,
        "peak_memory_bytes": memory,
    }
    report.write(result, options.out)
    print(json.dumps({"long": long, "memory": memory}, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=shapes.SHAPES, default="base")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--long", type=float, default=30, help="minutes of the long file; 0: none")
    parser.add_argument("--beams", type=int, default=0, help="of ours alone, by beam search of so many")
    parser.add_argument("--only", default="", help="part of the names of the servers to measure")
    parser.add_argument(
        "--before", type=Path, help="a checkout of an earlier commit, to measure its server too"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    return parser.parse_args()


def _kinds(folder: Path, shape: str, before: Path | None) -> list[Kind]:
    file = shapes.openai_whisper(shape, folder)
    converted = shapes.ctranslate2(file)
    tokenizer_file.write(converted / "tokenizer.json")
    return kinds(file, converted, before)


def _ready(stack: ExitStack, kind: Kind, folder: Path) -> Server:
    server = stack.enter_context(running(kind, folder))
    server.wait_until_ready()
    return server


def _measure(
    server: Server, clients: int, number: int, recordings: Sequence[speech.Recording], beams: int
) -> Measurement:
    work = [recordings[index % len(recordings)] for index in range(max(6, min(2 * clients, 32)))]
    waiting = iter(enumerate(work))
    guard = threading.Lock()
    times: dict[int, float] = {}
    texts: dict[int, str] = {}

    def client() -> None:
        while True:
            with guard:
                index, recording = next(waiting, (None, None))
            if index is None or recording is None:
                return
            begin = time.monotonic()
            texts[index] = _send(server, recording.path, beams)
            times[index] = time.monotonic() - begin

    load = os.getloadavg()[0]
    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.monotonic() - begin
    if len(texts) != len(work):
        raise RuntimeError(f"{server.name} answered {len(texts)} of {len(work)} requests")
    ordered = sorted(times.values())
    return Measurement(
        server=server.name,
        clients=clients,
        round=number,
        speed=sum(recording.seconds for recording in work) / wall,
        p50=statistics.median(ordered),
        p95=ordered[int(0.95 * (len(ordered) - 1))],
        word_error_rate=float(
            jiwer.wer([r.text for r in work], [texts[index] for index in range(len(work))])
        ),
        load_average=load,
    )


def _send(server: Server, path: Path, beams: int) -> str:
    if beams:
        form = {"model": "whisper-1", "response_format": "json", "beam_size": str(beams)}
        return str(_transcription(server, path, form)["text"]).strip()
    with path.open("rb") as file:
        answer = requests.post(server.url + "/whisper", files={"file": file}, timeout=3600)
    answer.raise_for_status()
    return str(answer.json()["results"][0]["transcript"]).strip()


def _transcription(server: Server, path: Path, form: dict[str, str], where: str = OPENAI) -> dict[str, Any]:
    with path.open("rb") as file:
        answer = requests.post(server.url + where, files={"file": file}, data=form, timeout=3600)
    answer.raise_for_status()
    return dict(answer.json())


def _measure_long(servers: Sequence[Server], recording: speech.Recording) -> list[dict[str, object]]:
    """The long file, in int8: ours with CTranslate2, window after window and side by side; faster-whisper's batched pipeline."""
    found: list[dict[str, object]] = []
    spans = {
        "vad": "true",
        "condition_on_previous_text": "false",
        "response_format": "json",
        "model": "whisper-1",
    }
    for server in servers:
        if "faster-whisper" not in server.name or "int8" not in server.name:
            continue
        ways: dict[str, dict[str, str]] = {"parallel": {**spans, "parallel": "true"}, "sequential": spans}
        is_peer = " app" in server.name
        for way, form in ({"batched": dict[str, str]()} if is_peer else ways).items():
            begin = time.monotonic()
            answer = _transcription(server, recording.path, form, BATCHED if is_peer else OPENAI)
            wall = time.monotonic() - begin
            error = float(jiwer.wer(recording.text, answer["text"].strip()))
            speed = recording.seconds / wall
            found.append({"server": server.name, "way": way, "speed": speed, "word_error_rate": error})
            print(f"{server.name:<28} {way:<10}: {speed:6.2f} x real time, WER {error:.2%}", flush=True)
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
