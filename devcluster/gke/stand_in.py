"""Starts the controllers' stand-in as a process of the cluster, under an identity of its own."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from devcluster import processes
from devcluster.errors import DevclusterError
from devcluster.paths import HERE

USER = "system:serviceaccount:kube-system:gke-stand-in"
"""The name under which the stand-in's requests stand in the audit log."""


class _Cluster(Protocol):
    folder: Path

    def kubeconfig_for(self, user: str, path: Path | None = None) -> Path: ...


def start(cluster: _Cluster, timeout: float = 30.0) -> subprocess.Popen[bytes]:
    """Start the stand-in; returns its process once it watches everything it acts on. It logs to gke.log in the folder."""
    kubeconfig = cluster.kubeconfig_for(USER, cluster.folder / "gke.kubeconfig")
    ready = cluster.folder / "gke.ready"
    log_path = cluster.folder / "gke.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "devcluster.gke.controller", str(kubeconfig), str(ready)],
            cwd=HERE.parent,
            env=processes.environment(cluster.folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DevclusterError(
                f"the stand-in for GKE did not start; {log_path} says:\n{log_path.read_text()[-2000:]}"
            )
        time.sleep(0.02)
    return process
