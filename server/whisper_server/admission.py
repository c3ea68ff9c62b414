"""Who may come in: a bounded number of requests, and none while loading or draining.

Decided from the headers, before a body is read: what can't be served soon is told so at once, with a
Retry-After, instead of waiting in a queue that nobody sees.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

MAX_RETRY_AFTER = 60  # seconds; clients give up on an answer that asks for minutes


class State(Enum):
    """Where in its life the server is."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


class Admission:
    """Counts the requests in flight and refuses those that are too many or come at the wrong time."""

    def __init__(self, capacity: int, state: Callable[[], State]) -> None:
        self._capacity = capacity
        self._state = state
        self._lock = threading.Lock()
        self._in_flight = 0
        self._typical_seconds = 1.0

    @property
    def in_flight(self) -> int:
        """Requests accepted and not yet answered."""
        return self._in_flight

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place for one request; raises werkzeug's 429 or 503, both with Retry-After."""
        if (state := self._state()) is not State.READY:
            raise ServiceUnavailable(f"the server is {state.value}; try again soon", retry_after=5)
        with self._lock:
            if self._in_flight >= self._capacity:
                raise TooManyRequests(
                    f"{self._in_flight} requests are being served or waiting, and this server takes no more "
                    "(WHISPER_MAX_QUEUE); try again later",
                    retry_after=self._until_a_place_is_free(),
                )
            self._in_flight += 1
            waiting = self._in_flight
        begin = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1
                # Requests are worked on one after the other: each waits for those before it.
                share = (time.monotonic() - begin) / waiting
                self._typical_seconds += 0.2 * (share - self._typical_seconds)

    def _until_a_place_is_free(self) -> int:
        return min(MAX_RETRY_AFTER, max(1, math.ceil(self._typical_seconds)))
