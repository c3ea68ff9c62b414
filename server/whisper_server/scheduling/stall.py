"""Sees a device that hangs: a driver or a kernel that never comes back raises nothing."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Watch:
    """Whether work waits and nothing has been computed for too long; said once in the log, and taken back when it goes on."""

    def __init__(self, waiting: Callable[[], bool], progress: Callable[[], int], limit: float) -> None:
        """`progress` grows with all that is computed; `limit` in seconds."""
        self.stalled = False
        self._waiting, self._progress, self._limit = waiting, progress, limit
        self._seen = -1
        self._since = time.monotonic()

    def start(self) -> None:
        """Begin to look, in a thread."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def look(self) -> None:
        """See how things are now."""
        now, seen = time.monotonic(), self._progress()
        # Of a device that hangs, only what it computes says that it goes on: those who waited give up some time.
        if seen != self._seen or not (self._waiting() or self.stalled):
            self._seen, self._since = seen, now
        stalled = now - self._since > self._limit
        if stalled and not self.stalled:
            log.critical(
                "work waits, and the device has computed nothing for %g seconds (WHISPER_STALL_SECONDS): it hangs, "
                "/healthz fails from now on",
                self._limit,
            )
        elif self.stalled and not stalled:
            log.warning("the device computes again")
        self.stalled = stalled

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.look()
