"""Who may come in: bounded in requests, in bytes on disk and in seconds of audio; none while loading or draining.

Two gates. The first decides from the headers, before a body is read; the second once the audio's duration is known. What can't be
served soon is told so at once, with a Retry-After, instead of waiting in a queue that nobody sees.

Of each limit there is a quarter more for clients that hold nothing of it: one client's pile does not keep the others out, whom
the turns behind the gates would serve beside it.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

from whisper_server.http.errors import limit

MAX_RETRY_AFTER = 60  # seconds; clients give up on an answer that asks for minutes
_WEIGHT = 0.2
"""Of the newest request in the running averages."""


class State(Enum):
    """Where in its life the server is."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    STALLED = "stalled"
    """The device hangs: only a new process helps."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What all requests in flight may have together; clients that hold nothing of it may have a quarter more."""

    requests: int
    bytes: int
    audio_seconds: float


class Admission:
    """Counts what is in flight, and refuses what is too much or comes at the wrong time."""

    def __init__(self, limits: Limits, state: Callable[[], State]) -> None:
        self._limits = limits
        self._state = state
        self._lock = threading.RLock()
        self._places: dict[Place, None] = {}
        """In the order in which they came: many may come in one tick of the clock."""
        self._seconds_per_request = 1.0
        self._seconds_per_audio_second = 0.1

    @property
    def in_flight(self) -> int:
        """Requests accepted and not yet answered."""
        return len(self._places)

    @property
    def bytes(self) -> int:
        """Of uploads on disk, or announced."""
        with self._lock:
            return sum(place.bytes for place in self._places)

    @property
    def audio_seconds(self) -> float:
        """Decoded, of requests not yet answered."""
        with self._lock:
            return sum(place.audio_seconds for place in self._places)

    def admit(self, client: str, length: int) -> "Place":
        """A place for a client's request with a body of `length` bytes, to be held in a with statement.

        Raises werkzeug's 429 or 503, both with Retry-After.
        """
        if (state := self._state()) is not State.READY:
            raise ServiceUnavailable(f"the server is {state.value}; try again soon", retry_after=5)
        with self._lock:
            mine = [place for place in self._places if place.client == client]
            if self.in_flight >= bound(self._limits.requests, holds_any=bool(mine)):
                raise self._too_many(
                    f"{self.in_flight} requests are being served or waiting, and this server takes no more "
                    f"({limit('WHISPER_MAX_QUEUE')})"
                )
            most = bound(self._limits.bytes, holds_any=any(place.bytes for place in mine))
            if self.bytes and self.bytes + length > most:
                raise self._too_many(
                    f"the uploads being received have {self.bytes} bytes, and with this one more than this server takes "
                    f"at a time, {self._limits.bytes} (WHISPER_MAX_QUEUE_BYTES)"
                )
            place = Place(self, client, length, self.in_flight + 1)
            self._places[place] = None
            return place

    def _too_many(self, reason: str, wait: float | None = None) -> TooManyRequests:
        seconds = math.ceil(self._seconds_per_request if wait is None else wait)
        return TooManyRequests(
            f"{reason}; try again later", retry_after=min(MAX_RETRY_AFTER, max(1, seconds))
        )

    def _hold(self, place: "Place", seconds: float) -> None:
        with self._lock:
            total = self.audio_seconds + seconds
            others = [other for other in self._places if other.client == place.client and other is not place]
            most = bound(self._limits.audio_seconds, holds_any=any(other.audio_seconds for other in others))
            if self.audio_seconds and total > most:
                raise self._too_many(
                    f"{self.audio_seconds:.0f} seconds of audio are waiting, and with this request more than this server "
                    f"takes at a time, {self._limits.audio_seconds:g} (WHISPER_MAX_QUEUE_AUDIO_SECONDS)",
                    self._seconds_until_free(total - most),
                )
            place.audio_seconds += seconds

    def _seconds_until_free(self, audio_seconds: float) -> float:
        """When so much audio will have been answered for: it is freed by whole requests, the first that came first."""
        now, freed = time.monotonic(), 0.0
        holding = [place for place in self._places if place.audio_seconds]
        oldest = holding[0].begin if holding else now
        for place in holding:
            freed += place.audio_seconds
            if freed >= audio_seconds:
                break
        return freed * self._seconds_per_audio_second - (now - oldest)

    def _release(self, place: "Place") -> None:
        elapsed = time.monotonic() - place.begin
        with self._lock:
            del self._places[place]
            if place.audio_seconds:
                # As many leave in a time as there are, divided by how long each stays.
                share = elapsed / place.company
                self._seconds_per_request += _WEIGHT * (share - self._seconds_per_request)
                rate = share / place.audio_seconds
                self._seconds_per_audio_second += _WEIGHT * (rate - self._seconds_per_audio_second)


def bound(limit: float, *, holds_any: bool) -> float:
    """How far a client may fill what has this limit: a quarter further, and one request at least, if it holds nothing of it."""
    return limit if holds_any else limit + math.ceil(limit / 4)


class Place:
    """What one request holds of the limits, until the end of the with statement."""

    def __init__(self, admission: Admission, client: str, length: int, company: int) -> None:
        self._admission = admission
        self.client = client
        self.begin = time.monotonic()
        self.bytes = length
        self.audio_seconds = 0.0
        self.company = company
        """How many requests were in flight when it came, itself included."""

    def hold(self, audio_seconds: float) -> None:
        """The second gate: the request's audio has this many seconds more. Raises werkzeug's 429."""
        self._admission._hold(self, audio_seconds)

    def resize(self, length: int) -> None:
        """The request's upload has this many bytes, as is known once it is read; 0 once it is gone."""
        self.bytes = length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission._release(self)
