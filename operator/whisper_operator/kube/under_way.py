"""Writes under way, and until when one may be carried out: whoever writes next has to know that there is none."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp

from whisper_operator.kube.errors import NotLeading


@dataclass
class Write:
    """One that is under way."""

    seconds_left: Callable[[], float]
    """Within how many it has to be over, or be refused; raises NotLeading if it must not be made any more."""
    seconds: float
    """What the API server is given for it."""
    over_by: float = -math.inf
    """When it is carried out, if it ever is, by the monotonic clock; -inf: it was not sent."""

    def send(self) -> None:
        if self.seconds_left() < self.seconds:
            raise NotLeading("connecting took so long that the write might outlive the Lease")
        self.over_by = time.monotonic() + self.seconds


_WRITE: ContextVar[Write | None] = ContextVar("_WRITE", default=None)
"""The one that the request of this task is."""


async def _ask_once_more(*_: object) -> None:
    """Right before a request's first byte, whatever came in between: a wait for a connection, a process that was stopped, or a
    try on a broken connection, after which aiohttp tries anew by itself."""
    if (write := _WRITE.get()) is not None:
        write.send()


class Writes:
    def __init__(self) -> None:
        self.trace = aiohttp.TraceConfig()
        """Of the connection that they are sent by."""
        self.trace.on_request_headers_sent.append(_ask_once_more)
        self._number = 0
        self._none = asyncio.Event()
        self._none.set()
        self._unsure_until = 0.0

    async def over(self, seconds: float) -> bool:
        """Wait so long for those that are under way; whether none is by then, on either side."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), seconds)
        return not self._number and time.monotonic() >= self._unsure_until

    @contextmanager
    def one(self, write: Write) -> Iterator[None]:
        """Count a write; of one that was sent and ends without an answer nobody can tell whether it is carried out yet, until the
        API server gives it up."""
        token = _WRITE.set(write)
        self._number += 1
        self._none.clear()
        try:
            yield
        except BaseException:
            self._unsure_until = max(self._unsure_until, write.over_by)
            raise
        finally:
            _WRITE.reset(token)
            self._number -= 1
            if not self._number:
                self._none.set()
