"""Finds and ends the processes of one cluster.

Every process of a cluster carries the cluster's folder in its environment, inherited from the one that started it. That
needs no list of process ids that could be out of date, and can't hit a process of anyone else.
"""

import os
import shutil
import signal
import time
from pathlib import Path

from devcluster.errors import DevclusterError

MARK = "WHISPER_DEVCLUSTER_FOLDER"


def environment(folder: Path) -> dict[str, str]:
    """The environment to start a process of the cluster in `folder` with."""
    return os.environ | {MARK: str(folder)}


def running(folder: Path) -> list[int]:
    """Process ids of what runs for the cluster in `folder` (a process that has ended, reaped or not, has no environment)."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = Path(entry.path, "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or another user's
            continue
        if mark in variables:
            found.append(int(entry.name))
    return found


def end(folder: Path, timeout: float = 20.0) -> None:
    """Kill the cluster in `folder` and remove the folder; returns when both are really gone.

    Nothing of a cluster outlives it, so there is nothing to save and no reason to ask politely.
    """
    deadline = time.monotonic() + timeout
    while pids := running(folder):
        if time.monotonic() > deadline:
            raise DevclusterError(
                f"processes {pids} of {folder} did not end within {timeout:.0f} s of SIGKILL"
            )
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise DevclusterError(f"{folder} could not be removed; remove it by hand")
