"""The benchmark for GPUs, on a CPU: all but the card is exercised."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import _until, _wait
from tests.server.whisper_process import ROOT


def run_benchmark(*arguments: str, timeout: float) -> "subprocess.CompletedProcess[str]":
    """As `make gpu` does: with the folder in which the demo's model is made."""
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    environment = {**os.environ, "PYTHONPATH": "server"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.mark.timeout(900)  # seconds; a minute where nothing else runs
def test_all_of_it_runs_and_what_it_checks_holds(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run_benchmark("--device", "cpu", "--quick", "--seconds", "880", "--out", str(out), timeout=880)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert set(result["machine"]) >= {"device", "torch", "commit"}
    sections = {name: section["found"] for name, section in result["sections"].items()}
    assert set(sections) == {"equality demo", "memory demo", "speed demo", "service demo"}

    equality = sections["equality demo"]
    assert {name.split(" ", 1)[1] for name in equality} == {
        "greedy",
        "sampled",
        "best of 3",
        "beams",
        "words",
    }
    assert all(each["equal"] == each["files"] == 1 and not each["lost"] for each in equality.values())

    start, *bursts = sections["memory demo"].values()
    assert len(bursts) == 4
    assert all(burst["windows"] == start["windows"] and not burst["lost"] for burst in bursts)
    assert all(burst["texts_as_before"] == burst["files"] for burst in bursts[1:])

    speed = sections["speed demo"]
    assert all(
        speed[f"step, {kind}, {rows} rows"]["ms"] > 0 for kind in ("eager", "graph") for rows in (1, 8)
    )
    assert speed["encoder, 1 windows"]["ms"] > 0
    assert speed["full windows"]["windows_a_second"] > 0
    assert speed["openai-whisper, short files"]["times_real_time"] > 0

    load = sections["service demo"]["short files, 2 clients"]
    assert (load["files"], load["lost"]) == (2, [])
    assert "float32 greedy       1 of 1 files as openai-whisper's" in done.stdout


def test_the_memorys_section_has_time_left_after_the_others() -> None:
    assert _until("service", 360) == 270
    assert _until("memory", 360) == 360


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = run_benchmark("--out", str(tmp_path / "gpu.json"), timeout=120)
    assert done.returncode == 2
    assert re.fullmatch("benchmarks.gpu: .*CUDA can't be used: .*\n", done.stderr)


def test_a_section_that_fails_or_hangs_takes_nothing_from_the_others() -> None:
    """Each is a process, and what it started ends with it."""

    def section(code: str) -> str:
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        return _wait(process, 5)

    assert section("pass") == ""
    assert "broken" in section("raise SystemExit('broken')")
    assert section("import os; os._exit(3)") == "exit status 3"
    child = "import subprocess; subprocess.run(['sleep', '100'])"
    assert section(child).startswith("it took more than 5 s")
