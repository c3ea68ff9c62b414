"""Sends a file until there is a transcript: a server that is busy says when, one that is replaced has a successor."""

import time
from collections.abc import Callable
from typing import Any

from whisper_operator.plugin.failure import Failure
from whisper_operator.plugin.request import Busy, Lost

PATIENCE = 600.0
"""Seconds for which a busy server is tried."""
SHORTEST = 1
TIMES_LOST = 3


def until_done(
    once: Callable[[], dict[str, Any]],
    say: Callable[[str], None],
    wait: Callable[[float], object] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """What `once` returns. Raises Failure."""
    last = now() + PATIENCE
    lost = 0
    while True:
        try:
            return once()
        except Busy as busy:
            seconds = max(SHORTEST, busy.seconds)
            if now() + seconds > last:
                raise Failure(
                    f"the server is still too busy after {PATIENCE / 60:.0f} minutes: {busy}"
                ) from None
            say(f"{busy}; trying again in {seconds} s")
        except Lost as error:
            lost += 1
            seconds = 1
            if lost == TIMES_LOST:
                raise Failure(f"the connection to the server was lost {lost} times: {error}") from None
            say(f"the connection was lost ({error}); trying again")
        wait(seconds)
