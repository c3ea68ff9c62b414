"""What this machine has for an engine: a usable GPU and its driver, and memory, within the container's limits."""

import os
from contextlib import suppress
from pathlib import Path

import torch

from whisper_server import cgroup
from whisper_server.engine.interface import LoadError


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


def use_cpus() -> int:
    """Let torch compute with as many threads as this process may keep busy, unless OMP_NUM_THREADS says how many; returns that.

    Left to itself it starts one for each of the machine's cores, which a container's limit then stops again and again.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cgroup.usable_cpus())
    return torch.get_num_threads()


def free_memory(device: str, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that may still be taken on "cuda" or, within the container's limit, on the "cpu"."""
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        # What torch holds and does not use is free too; and it may have been told to take a part of the memory only.
        allowed = int(total * torch.cuda.get_per_process_memory_fraction()) - torch.cuda.memory_allocated()
        return min(allowed, int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    for limit, used, folder, kind in (
        ("memory.max", "memory.current", "", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory", "total_"),
    ):
        with suppress(OSError, ValueError):  # another version of cgroups, or no limit
            cached = _cached(cgroup.FOLDER / folder / "memory.stat", kind)
            free = min(free, cgroup.number(limit) - cgroup.number(used) + cached)
    return max(0, free)


def _cached(stat: Path, kind: str) -> int:
    """Bytes of files, such as the weights just read, that a container is charged for and that give way when memory is needed."""
    lines = dict(line.split() for line in stat.read_text().splitlines())
    return int(lines[f"{kind}inactive_file"]) + int(lines[f"{kind}active_file"])
