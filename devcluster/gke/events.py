"""Reports Events as Kubernetes controllers do: what is said again is counted up, not said twice."""

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from devcluster.gke.client import ApiError, Client, Object

QUIET_SECONDS = 1.0
"""The same is not said again about the same object within this time."""


@dataclass(frozen=True)
class _Said:
    """An Event that stands: its name, its count, and when it was last written (monotonic)."""

    name: str
    count: int
    at: float


class Recorder:
    """Writes Events about objects. Remembers what it said, per object, until told to forget."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._said: dict[str, dict[tuple[str, str, str], _Said]] = {}

    async def report(self, about: Object, kind: str, reason: str, message: str, component: str) -> None:
        """`kind` is Normal or Warning, `component` the controller that speaks."""
        metadata = about["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        now = timestamp()
        said = self._said.setdefault(metadata["uid"], {})
        what = (component, reason, message)
        before = said.get(what)
        if before is not None and time.monotonic() < before.at + QUIET_SECONDS:
            return
        try:
            if before is None:
                name, count = f"{metadata['name']}.{secrets.token_hex(8)}", 1
                await self._client.create(path, _event(about, name, kind, reason, message, component, now))
            else:
                name, count = before.name, before.count + 1
                await self._client.merge(f"{path}/{name}", {"count": count, "lastTimestamp": now}, component)
        except ApiError as error:
            # Expired, or the namespace is being removed: events are best effort.
            if error.code not in (403, 404, 409):
                raise
            said.pop(what, None)
        else:
            said[what] = _Said(name, count, time.monotonic())

    def forget(self, uid: str) -> None:
        """The object with that uid is gone."""
        self._said.pop(uid, None)


def timestamp() -> str:
    """Now, as Kubernetes writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(
    about: Object, name: str, kind: str, reason: str, message: str, component: str, now: str
) -> Object:
    metadata = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "type": kind,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": component},
        "reportingComponent": component,
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    }
