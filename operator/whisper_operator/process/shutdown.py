"""A process that ends when it is to end, whatever in it still waits for something."""

import logging
import os
import threading

SECONDS = 10.0
"""That an orderly end may take: well before Kubernetes would kill the pod."""

logger = logging.getLogger(__name__)


class ShutdownWatchdog:
    """kopf's watches that are about to begin anew, or stand beside one that failed, may wait for credentials that nobody brings;
    kopf waits for them then, and asyncio for what kopf leaves. A thread does not."""

    def __init__(self) -> None:
        self._timer = threading.Timer(SECONDS, _end)
        self._timer.daemon = True

    def start(self) -> None:
        """The end has begun; may be told more than once."""
        if self._timer.ident is None:
            self._timer.start()

    def cancel(self) -> None:
        """It has come."""
        self._timer.cancel()


def _end() -> None:
    logger.critical(
        "The operator failed to end within %.0f s: something in it hangs, ending all the same", SECONDS
    )
    logging.shutdown()
    os._exit(1)
