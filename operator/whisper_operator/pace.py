"""How often a status is written: a pod that comes and goes for days must not have the API server write it down each time.

An endpoint may have its status written many times in a row, as when it is made, and then once a minute; a new generation of
its spec starts afresh, as somebody waits for that one.
"""

from dataclasses import dataclass

BURST = 30
SECONDS = 60.0
"""From one write to the next when the burst is used up."""

MOST = 10_000
"""Endpoints that are remembered."""


@dataclass
class _Bucket:
    generation: int
    full_at: float
    """When all of the burst will be there again."""


class Pace:
    """A token bucket for each endpoint."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def wait(self, uid: str, generation: int, now: float) -> float:
        """Seconds until the endpoint's status may be written; 0 means that it is written now, and counts."""
        bucket = self._buckets.get(uid)
        if bucket is None or bucket.generation != generation or bucket.full_at <= now:
            if len(self._buckets) >= MOST:
                self._buckets = {key: each for key, each in self._buckets.items() if each.full_at > now}
            self._buckets[uid] = _Bucket(generation, now + SECONDS)
            return 0.0
        early = bucket.full_at - now - (BURST - 1) * SECONDS
        if early > 0:
            return early
        bucket.full_at += SECONDS
        return 0.0
