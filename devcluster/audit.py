"""Reads the API server's audit log: who asked for what, and what came of it."""

import itertools
import json
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from devcluster.errors import DevclusterError

DISORDER = timedelta(seconds=5)
"""By how much entries of the log may be out of order: each is written by the request's own thread."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One request to the API server, as it was answered (a watch: as it began)."""

    time: datetime
    """When the request arrived, with time zone."""
    user: str
    """The name that the request was made under, such as system:serviceaccount:NAMESPACE:NAME."""
    verb: str
    """get, list, watch, create, update, patch, delete or deletecollection."""
    resource: str
    """PLURAL[/SUBRESOURCE], with GROUP/ before it outside the core group; '' for a path that is no resource."""
    namespace: str
    name: str
    code: int
    """HTTP status of the answer."""
    user_agent: str
    finished: datetime
    """When it was answered (a watch: when it began)."""


class AuditLog:
    """A growing audit log. Each call reads only what was written since the last; raises DevclusterError if it was rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._events: list[AuditEvent] = []
        self._seen_watches: set[str] = set()

    def events(
        self,
        user: str | None = None,
        verbs: Collection[str] | None = None,
        since: datetime | None = None,
    ) -> list[AuditEvent]:
        """Requests in the order of their answers, of one user, of some verbs, from a time on (None: all)."""
        self._read()
        first = 0
        if since is not None:
            first = bisect_left(self._events, since - DISORDER, key=lambda event: event.finished)
        return [
            event
            for event in itertools.islice(self._events, first, None)
            if (user is None or event.user == user)
            and (verbs is None or event.verb in verbs)
            and (since is None or event.time >= since)
        ]

    def _read(self) -> None:
        if not self._path.exists():  # not a request yet
            return
        if self._path.stat().st_size < self._position:
            raise DevclusterError(
                f"{self._path} is shorter than what was read of it: it was rotated or emptied"
            )
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    break
                self._position += len(line)
                self._add(json.loads(line))

    def _add(self, entry: dict[str, Any]) -> None:
        # A watch is logged twice, when it starts and when it ends: it is one request.
        if entry["verb"] == "watch":
            if entry["auditID"] in self._seen_watches:
                return
            self._seen_watches.add(entry["auditID"])
        self._events.append(parse(entry))


def parse(entry: dict[str, Any]) -> AuditEvent:
    """An entry of the log (audit.k8s.io/v1) as an AuditEvent."""
    target = entry.get("objectRef", {})
    parts = (target.get("apiGroup"), target.get("resource"), target.get("subresource"))
    return AuditEvent(
        time=datetime.fromisoformat(entry["requestReceivedTimestamp"]),
        user=entry.get("impersonatedUser", entry["user"]).get("username", ""),
        verb=entry["verb"],
        resource="/".join(part for part in parts if part),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        user_agent=entry.get("userAgent", ""),
        finished=datetime.fromisoformat(entry["stageTimestamp"]),
    )
