"""CPU time and memory of processes, as the kernel counts them."""

import os
import time
from pathlib import Path

from devcluster import Cluster, processes

BENCHMARK = "benchmark"
"""The name of this process, which makes the load and reads the audit log."""


def cpu_seconds(process: int) -> float:
    """Of one process so far, user and system time together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """How many cores each program of a cluster keeps busy, the API server and etcd among them, and this process too."""

    def __init__(self, cluster: Cluster) -> None:
        """It begins now."""
        self._cluster = cluster
        self._clock, self._before = time.perf_counter(), self._by_program()

    def cores(self) -> dict[str, float]:
        """Since the beginning, the busiest programs first; without those that have ended."""
        wall = time.perf_counter() - self._clock
        spent = {name: seconds - self._before.get(name, 0.0) for name, seconds in self._by_program().items()}
        busiest = sorted(spent, key=lambda name: -spent[name])
        return {name: round(spent[name] / wall, 2) for name in busiest if spent[name] > 0.01 * wall}

    def _by_program(self) -> dict[str, float]:
        """CPU seconds so far."""
        found = {BENCHMARK: cpu_seconds(os.getpid())}
        for process in processes.running(self._cluster.folder):
            try:
                name = _program(process)
                found[name] = found.get(name, 0.0) + cpu_seconds(process)
            except FileNotFoundError:  # it ended meanwhile
                continue
        return found


def memory_mib(process: int) -> tuple[float, float]:
    """Resident MiB now, and at most."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    found = {
        line.split(":")[0]: int(line.split()[1]) / 1024
        for line in lines
        if line.startswith(("VmRSS", "VmHWM"))
    }
    return round(found["VmRSS"], 1), round(found["VmHWM"], 1)


def _program(process: int) -> str:
    """kube-apiserver, etcd; of Python, its module."""
    arguments = Path(f"/proc/{process}/cmdline").read_text().split("\0")
    module = arguments[arguments.index("-m") + 1] if "-m" in arguments[:-1] else arguments[0]
    return Path(module).name.split(".")[0]
