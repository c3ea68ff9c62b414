"""What HTTP's layer does not tell: bodies that come too slowly, and clients that are gone.

gunicorn's threads read from blocking sockets: a client that sends a byte a minute would hold one for ever. One thread watches all
sockets that are being read, and shuts those down whose time is over; the read then ends by itself.
"""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gunicorn.http.errors import ParseException

STALL_SECONDS = 20.0
"""How long nothing at all may come."""
MIN_BYTES_PER_SECOND = 16 * 1024


class Watchdog:
    """Shuts down sockets whose time is over."""

    def __init__(self) -> None:
        self._watched: dict[socket.socket, Callable[[], bool]] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to watch, in a thread."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def watch(self, connection: socket.socket, is_over: Callable[[], bool]) -> None:
        """From now on, ask `is_over` once a second; takes the place of an earlier one of this socket."""
        with self._lock:
            self._watched[connection] = is_over

    def forget(self, connection: socket.socket) -> None:
        """Leave the socket alone."""
        with self._lock:
            self._watched.pop(connection, None)

    @contextmanager
    def limit(self, connection: socket.socket | None, is_over: Callable[[], bool]) -> Iterator[None]:
        """Watch while the block runs."""
        if connection is None:
            yield
            return
        self.watch(connection, is_over)
        try:
            yield
        finally:
            self.forget(connection)

    def _run(self) -> None:
        while True:
            time.sleep(1)
            with self._lock:
                for connection in [each for each, is_over in self._watched.items() if is_over()]:
                    del self._watched[connection]
                    with suppress(OSError):  # closed by the client meanwhile
                        connection.shutdown(socket.SHUT_RD)


class Body:
    """A request's body under way: `wsgi.input` with a deadline and a minimum rate."""

    def __init__(self, stream: Any, deadline: float) -> None:
        """`deadline` is a time.monotonic()."""
        self._stream = stream
        self._deadline = deadline
        self._begin = self._progress = time.monotonic()
        self.received = 0
        """Bytes."""
        self.too_slow = False

    def read(self, size: int = -1) -> bytes:
        """As of a file; raises TimeoutError when the client is too slow, and ValueError for chunks that are none."""
        try:
            data: bytes = self._stream.read(size)
        except ParseException as problem:
            raise ValueError(str(problem)) from None
        if self.too_slow:
            raise TimeoutError("the body came too slowly")
        self.received += len(data)
        self._progress = time.monotonic()
        return data

    def is_over(self) -> bool:
        """For the watchdog."""
        now = time.monotonic()
        earned = STALL_SECONDS + self.received / MIN_BYTES_PER_SECOND
        self.too_slow = now > min(self._deadline, self._begin + earned, self._progress + STALL_SECONDS)
        return self.too_slow


class ContinuedBody:
    """The body of a request whose client waits to be told to send it: it is told when somebody wants to read.

    Until then the connection can't be used again: whether a body or the next request follows is the client's choice.
    """

    def __init__(self, request: Any, connection: socket.socket) -> None:
        """`request` is gunicorn's."""
        self._request, self._body, self._connection = request, request.body, connection
        self._closes, request.must_close = request.must_close, True
        self._asked_for = False

    @property
    def failed(self) -> bool:
        """As of gunicorn's body."""
        return bool(self._body.failed)

    def read(self, size: int | None = None) -> bytes:
        """As of gunicorn's body."""
        if not self._asked_for:
            self._asked_for = True
            self._request.must_close = self._closes
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        data: bytes = self._body.read(size)
        return data


def is_gone(connection: socket.socket | None) -> bool:
    """Whether the client has hung up. One that only closes its sending side counts as gone, as proxies have it."""
    if connection is None:
        return False
    poll = select.poll()
    try:
        poll.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
