"""What to do when memory runs out, or the whole device is lost."""

import logging

log = logging.getLogger(__name__)

MOST = 64
"""More requests to a call than any device is given."""
EASING_CALLS = 32
"""After so many calls that found enough memory, the next ones may be larger again."""


class Pressure:
    """How much less is done at a time because memory ran out; it eases again with calls that found enough."""

    def __init__(self) -> None:
        self._most: int | None = None
        """Requests to a call; None: there was always enough."""
        self._calls = 0
        """That found enough since that changed."""

    def at_once(self, wanted: int) -> int:
        """How many of the `wanted` requests to put into a call."""
        return wanted if self._most is None else min(wanted, self._most)

    def rises(self, tried: int, problem: Exception) -> None:
        """After a call of so many that found not enough memory."""
        self._most = min(self._most or tried, max(1, tried // 2))
        self._calls = 0
        reason = " ".join(str(problem).split())
        log.warning("out of memory for %d windows at once, trying %d: %s", tried, self._most, reason)

    def eases(self) -> None:
        """After one that found enough."""
        self._calls += 1
        if self._most is not None and self._calls >= EASING_CALLS:
            self._most, self._calls = 2 * self._most if self._most < MOST else None, 0


def is_out_of_memory(problem: BaseException) -> bool:
    return isinstance(problem, MemoryError) or any(
        word in str(problem) for word in ("out of memory", "ALLOC_FAILED")
    )


def is_lost(problem: Exception) -> bool:
    """Whether CUDA failed in a way that every later call would see too."""
    return str(problem).startswith(("CUDA failed", "cuBLAS failed", "cuDNN failed")) and not is_out_of_memory(
        problem
    )
