"""Everything about the server that only a GPU can tell, in minutes.

    make gpu

or, in any environment that has the server's packages, `PYTHONPATH=server python -m benchmarks.gpu`; --help lists the options.

Is what comes out what openai-whisper says on that GPU? Does a burst on a card with a T4's memory lose anything? What does a step
of the decoder cost, by rows, as graphs and without; what the encoder; how many windows a second are transcribed, in one process
and over HTTP, and how many by openai-whisper's own `transcribe`? Models are the demo's, widened to the shapes of official ones.

Each section is a process of its own, so that one that fails, or that loses the GPU, takes nothing from the others; what each has
found is written after it to docs/benchmarks/gpu.json.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import report

SHAPES = ("large-v2", "turbo")
SECONDS = 200
"""The most that a section may take."""


def main() -> int:
    """Run the command line; the exit status is 1 if a section failed."""
    options = _options()
    if options.section:
        _run_section(options)
        return 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if failed := _wait(_start("material", "demo", folder, options), SECONDS):
            return _fail(failed)
        machine = json.loads(_notes(folder, "material", "demo").read_text())["machine"]
        result: dict[str, Any] = {"machine": machine, "sections": {}}
        # Widening takes a CPU a while, and the first section needs none of it.
        shapes = [] if options.quick else [_start("material", ",".join(SHAPES), folder, options)]
        for name, shape in _sections(options.quick):
            if shape != "demo" and shapes and (failed := _wait(shapes.pop(), SECONDS)):
                return _fail(failed)
            started = time.monotonic()
            left = min(SECONDS, _until(name, options.seconds) - (started - begin))
            problem = "there was no time left for it"
            if left > 0:
                problem = _wait(_start(name, shape, folder, options), left)
            notes = {}
            with suppress(OSError):
                notes = json.loads(_notes(folder, name, shape).read_text())
            found = {"seconds": round(time.monotonic() - started, 1), "problem": problem, "found": notes}
            result["sections"][f"{name} {shape}"] = found
            _write(options.out, result)
            print(f"-- {name} {shape}: {found['seconds']} s{', FAILED' if problem else ''}", flush=True)
            if problem:
                print(problem, flush=True)
    result["seconds"] = round(time.monotonic() - begin, 1)
    _write(options.out, result)
    print(report.table(result))
    return 1 if any(each["problem"] for each in result["sections"].values()) else 0


def _fail(problem: str) -> int:
    print(f"benchmarks.gpu: {problem.strip()}", file=sys.stderr)
    return 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a little of everything, on the demo model")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/gpu.json"))
    parser.add_argument("--commit", default="", help="of this source, where git can't tell")
    parser.add_argument("--seconds", type=float, default=350, help="the most that it may take in all [350]")
    parser.add_argument("--section", default="", help=argparse.SUPPRESS)
    parser.add_argument("--shape", default="demo", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _until(section: str, seconds: float) -> float:
    """When a section ends at the latest, after the beginning: the memory's, though it comes last, has a quarter of the time."""
    return seconds if section == "memory" else seconds * 3 / 4


def _sections(quick: bool) -> list[tuple[str, str]]:
    """In the order of what is wanted most, should the time run out."""
    if quick:
        return [(name, "demo") for name in ("equality", "memory", "speed", "service")]
    each = [(name, shape) for shape in SHAPES for name in ("speed", "service")]
    return [("equality", "demo"), *each, ("memory", SHAPES[0])]


def _start(section: str, shape: str, folder: Path, options: argparse.Namespace) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.gpu", "--section", section, "--shape", shape]
    command += [
        "--folder",
        str(folder),
        "--device",
        options.device,
        "--commit",
        options.commit,
        *(["--quick"] if options.quick else []),
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _wait(process: "subprocess.Popen[str]", seconds: float) -> str:
    """What went wrong, or nothing."""
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the server that it may have started
        _, said = process.communicate()
        return f"it took more than {seconds:g} s: {said[-1500:]}"
    return said[-3000:] or f"exit status {process.returncode}" if process.returncode else ""


def _run_section(options: argparse.Namespace) -> None:
    """Be one section's process. Libraries are imported here only: the process that waits needs none."""
    from benchmarks.gpu import equality, memory, service, speed
    from benchmarks.gpu.material import Setup, make

    notes: dict[str, Any] = {}

    def note(name: str, value: Any) -> None:
        notes[name] = value
        print(f"{options.section} {options.shape}, {name}: {json.dumps(value)}", flush=True)
        _write(_notes(options.folder, options.section, options.shape), notes)

    setup = Setup(options.device, options.shape, options.folder, options.quick)
    if options.section == "material":
        note("machine", _machine(options))
        for shape in options.shape.split(","):
            make(replace(setup, shape=shape))
        return
    sections = {"equality": equality.run, "memory": memory.run, "speed": speed.run, "service": service.run}
    sections[options.section](setup, note)


def _notes(folder: Path, section: str, shape: str) -> Path:
    return folder / f"{section}-{shape}.json"


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from whisper_server.engine.hardware import choose_device, driver_version
    from whisper_server.engine.interface import LoadError

    try:
        device = choose_device(options.device)
    except LoadError as problem:
        sys.exit(str(problem))
    found = {
        "device": device,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": options.commit or _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "memory_mib": card.total_memory >> 20}
        found |= {"driver": driver_version(), "cuda": torch.version.cuda}
    return found


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
