"""What a container may take of its machine, of cgroups v2 and v1."""

import os
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/sys/fs/cgroup")
"""Where a container finds its own limits."""


def usable_cpus() -> int:
    """How many CPUs this process may keep busy: a container's limit, not the machine's core count."""
    cpus = len(os.sched_getaffinity(0))
    quota, period = _cpu_limit()
    return max(1, min(cpus, quota // period)) if quota > 0 else cpus


def _cpu_limit() -> tuple[int, int]:
    """Microseconds of processor time in each period of so many; (-1, 1) without a limit."""
    with suppress(OSError, ValueError):  # cgroup v2
        quota, period = (FOLDER / "cpu.max").read_text().split()
        return (-1, 1) if quota == "max" else (int(quota), int(period))
    with suppress(OSError, ValueError):
        return number("cpu/cpu.cfs_quota_us"), number("cpu/cpu.cfs_period_us")
    return -1, 1


def number(name: str) -> int:
    """What a file of a single number says; raises OSError, ValueError where there is no such limit."""
    return int((FOLDER / name).read_text())
