"""What this machine has: a usable GPU and its driver, CPUs and memory, within the container's limits."""

import math
import os
from pathlib import Path

import torch

from whisper_server.engine.interface import LoadError

CGROUP = Path("/sys/fs/cgroup")


def choose_device(wanted: str) -> str:
    """Return "cuda" or "cpu" for "auto", "cuda" or "cpu"; raises LoadError where "cuda" is unusable."""
    if wanted == "cpu":
        return "cpu"
    try:
        torch.zeros(1, device="cuda")  # fails where is_available() is content: a driver too old, no memory
    except (RuntimeError, AssertionError) as problem:
        if wanted == "auto":
            return "cpu"
        reason = " ".join(str(problem).split(". ")[0].split())
        raise LoadError(
            f"WHISPER_DEVICE=cuda, but CUDA can't be used: {reason}; NVIDIA driver here: {driver_version()}; "
            f"this torch {torch.__version__} is built for CUDA {torch.version.cuda}. "
            "Install a driver for that CUDA, a torch for that driver, or set WHISPER_DEVICE=cpu"
        ) from None
    return "cuda"


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The version of the loaded NVIDIA driver, such as "580.65.06", or "none"."""
    try:
        words = path.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return "none"
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown")


def usable_cpus(path: Path = CGROUP / "cpu.max") -> int:
    """How many CPUs this process may keep busy: a container's limit, not the machine's core count."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = path.read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):
        return cpus


def free_memory(device: str, cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that may still be taken on "cuda" or, within the container's limit, on the "cpu"."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free)
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        return min(free, limit - used)
    except (OSError, ValueError):  # no limit
        return free
