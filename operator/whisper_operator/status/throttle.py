"""How often a status is written: a pod that comes and goes for days must not have the API server write it down each time.

The first news of a new generation of the spec is written at once, as somebody waits for it. What follows is gathered, as when
an endpoint's pods come up one by one; and after many writes in a row there is one a minute.
"""

from dataclasses import dataclass

GATHER_SECONDS = 1.0
"""From one write to the next at the least: what happens in between is told together."""
BURST = 30
SECONDS = 60.0
"""From one write to the next when the burst is used up."""

MOST = 10_000
"""Endpoints that are remembered."""


@dataclass
class _Bucket:
    generation: int
    written_at: float
    full_at: float
    """When all of the burst will be there again."""


class Throttle:
    """A token bucket for each endpoint."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def wait(self, uid: str, generation: int, now: float, *, backlogged: bool = False) -> float:
        """Seconds until the endpoint's status may be written; 0 means that it is written now, and counts.

        `backlogged`: there is more urgent work, for which the first news waits as well.
        """
        bucket = self._buckets.get(uid)
        if bucket is None or bucket.generation != generation or bucket.full_at <= now:
            if len(self._buckets) >= MOST:
                self._buckets = {key: each for key, each in self._buckets.items() if each.full_at > now}
            self._buckets[uid] = _Bucket(generation, now, now + SECONDS)
            return GATHER_SECONDS if backlogged else 0.0
        early = max(bucket.written_at + GATHER_SECONDS, bucket.full_at - (BURST - 1) * SECONDS) - now
        if early > 0:
            return early
        bucket.written_at = now
        bucket.full_at += SECONDS
        return 0.0
