"""Every state that objects went through, not only those that a test happens to look at."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from devcluster import Cluster
from devcluster.waiting import eventually


class State(NamedTuple):
    """An object as it was from one write to the next."""

    version: int
    """resourceVersion, which orders the states of all objects of a cluster."""
    deleted: bool
    body: dict[str, Any]


class History:
    """Watches kinds in a namespace while the block runs."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, *kinds: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._files = {kind: folder / f"{kind}.watched" for kind in kinds}
        self._watches: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for kind, path in self._files.items():
            command: list[str] = [
                str(self._cluster.binaries / "kubectl"), f"--kubeconfig={self._cluster.kubeconfig}",
                "get", kind, "-n", self._namespace, "--watch", "--output-watch-events", "-o", "json",
            ]  # fmt: skip
            with path.open("wb") as file:
                self._watches.append(subprocess.Popen(command, stdout=file, stdin=subprocess.DEVNULL))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watch in self._watches:
            watch.kill()
            watch.wait()

    def states(self, *kinds: str, since: int = 0) -> list[State]:
        """States of these kinds (all when none is named), oldest first, later than that resourceVersion."""
        found = [
            State(int(event["object"]["metadata"]["resourceVersion"]), event["type"] == "DELETED", event["object"])
            for kind in kinds or self._files
            for event in _documents(self._files[kind].read_text())
        ]  # fmt: skip
        return sorted((state for state in found if state.version > since), key=lambda state: state.version)

    def seen_up_to(self, kind: str, name: str) -> int:
        """Waits until the watch of a kind has shown an object as it is now; its resourceVersion."""
        now = int(self._cluster.get(kind, name, "-n", self._namespace)["metadata"]["resourceVersion"])
        eventually(
            lambda: any(state.version >= now for state in self.states(kind)),
            what=f"{kind} {name} of version {now} in the watch",
        )
        return now


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects one after the other; the last may not be there yet in whole."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield document
        while at < len(text) and text[at].isspace():
            at += 1
