"""Ends a cluster when the process that started it dies, however it dies.

The guardian holds the reading end of a pipe whose writing end only its parent has. The kernel closes that end when the parent
exits, also by SIGKILL; then the guardian ends the cluster, and so do `Cluster.stop` and a normal exit: one way for all.
"""

import subprocess
import sys
from pathlib import Path

from devcluster import processes
from devcluster.errors import DevclusterError
from devcluster.paths import HERE


class Guardian:
    """The parent's side: a child process that ends the cluster in `folder` once this process is gone."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "devcluster.guardian", str(folder)],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent
        )

    def end(self, timeout: float = 30.0) -> None:
        """End the cluster now; returns when its processes and its folder are gone."""
        _, said = self._process.communicate(timeout=timeout)
        if self._process.returncode != 0:
            raise DevclusterError(
                f"the guardian of the cluster failed: {said.decode(errors='replace').strip()}"
            )


if __name__ == "__main__":
    sys.stdin.buffer.read()
    processes.end(Path(sys.argv[1]))
