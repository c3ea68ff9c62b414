"""gunicorn's worker of threads, made safe against clients that keep it waiting."""

import errno
import json
import selectors
import socket
import struct
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from whisper_server.http.connection import ContinuedBody, is_gone
from whisper_server.http.errors import PASSING, form_of

_SEND_TIMEOUT = struct.pack("ll", 30, 0)
"""A struct timeval: how long a client may read nothing at all of its answer."""
HEADER_SECONDS = 20.0
"""How long the headers of a request may take."""
_MAX_HEADER_BYTES = 32 << 10
_REST_SECONDS = 0.3
_REST_BYTES = 1 << 20
"""What a thread waits for and reads of a body that nobody wanted: the rest of most has come already."""
_CLOSE_SECONDS = 10.0
"""How long a client may go on sending, or not close, after its last answer."""
_PIECE = 64 << 10


_STATUSES = {
    errors.InvalidResponseHeader: 500,
    errors.InvalidResponseHeaderName: 500,
    errors.ConfigurationProblem: 500,
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.UnsupportedTransferCoding: 501,
    errors.ParseException: 400,
}
"""What gunicorn finds wrong with a request; the first that fits."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's worker of threads, where a thread waits for no client but one that has been let in, or that does not read.

    gunicorn's own threads wait for the end of the headers, and for the rest of a body that was refused; its loop waits for
    clients to close. A few clients that send a byte and no more would hold them all.
    """

    max_drained_bytes = 64 << 20
    """Most that is read, and forgotten, of a body that was refused."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._closing: set[Any] = set()

    def enqueue_req(self, conn: Any) -> None:
        """Called for each new connection, and for one that was kept alive and on which something has come."""
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + HEADER_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))
        # What gunicorn has read ahead does not make the socket readable.
        self.on_pending_socket_readable(conn, conn.sock)

    def on_pending_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Called when more has come of a request: all of its headers are worth a thread."""
        read, unread = _arrived(conn)
        head = (read + unread).removeprefix(b"\r\n")  # as gunicorn's parser allows
        if b"\r\n\r\n" in head:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._forget(conn)
            conn.data_ready = True
            super().enqueue_req(conn)
        elif len(head) > _MAX_HEADER_BYTES:
            self._refuse(
                conn, 431, f"the headers have more than {_MAX_HEADER_BYTES} bytes; send less", _path(head)
            )
        elif is_gone(client):
            self._close(conn)
        else:
            # Readable again once there is more than this, which stays where it is.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(unread) + 1)

    def handle(self, conn: Any) -> Any:
        """Serve what has come in on a connection, in a thread."""
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Called by `handle` with the headers."""
        if req._expected_100_continue:
            # gunicorn would ask for the body at once, before the headers have decided whether it is wanted.
            req._expected_100_continue = False
            req.body = ContinuedBody(req, conn.sock)
        try:
            return super().handle_request(req, conn)
        except BlockingIOError:
            raise ConnectionResetError(errno.ECONNRESET, "the client does not read its answer") from None

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Called by `handle` for what is no request, and for what went wrong outside of the application."""
        path = getattr(req or getattr(exc, "req", None), "path", None) or ""
        status = next((status for kind, status in _STATUSES.items() if isinstance(exc, kind)), 500)
        if status == 500:
            self.log.error("unexpected error", exc_info=exc)
            reason = "internal error; the server's log says more"
        else:
            self.log.warning("a malformed request from %s: %s", addr[0] if addr else "unknown", exc)
            reason = f"the request is malformed ({exc}); send HTTP/1.1"
        with suppress(OSError):
            _send_error(client, status, reason, path)

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """Whether the connection can be used again, which it can't while there is a body in the way."""
        end = time.monotonic() + _REST_SECONDS
        return bool(keepalive) and conn.parser.finish_body(deadline=end, max_bytes=_REST_BYTES)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Called when a thread is done with a connection."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self._close_later(conn)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Close connections whose time is over; when draining, also those on which nothing has come."""
        now = time.monotonic()
        for conn in [conn for conn in self._closing if conn.timeout <= now]:
            self._close(conn)
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now or not self.alive]:
            if not any(_arrived(conn)):
                self._close(conn)
            elif conn.timeout <= now:
                self._refuse(
                    conn,
                    408,
                    f"the headers did not end within {HEADER_SECONDS:g} seconds; each of their lines, and an empty one "
                    "after them, ends in CR LF",
                    _path(b"".join(_arrived(conn))),
                )

    def _refuse(self, conn: Any, status: int, reason: str, path: str) -> None:
        with suppress(OSError):
            _send_error(conn.sock, status, reason, path)
        self._close_later(conn)

    def _close_later(self, conn: Any) -> None:
        """Say that no more will be sent, and close the connection when the client has.

        Closing it on a client that still sends makes the kernel reset it, and the client, or the proxy before it, never sees the
        answer that was sent.
        """
        self._forget(conn)
        try:
            conn.sock.setblocking(False)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # closed, or reset by the client
            self._close(conn)
            return
        conn.timeout = time.monotonic() + _CLOSE_SECONDS
        conn.left = self.max_drained_bytes
        self._closing.add(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))

    def _drain(self, conn: Any, client: socket.socket) -> None:
        """Read and forget what a client sends that has had its last answer."""
        try:
            data = client.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.left -= len(data)
        if not data or conn.left <= 0:
            self._close(conn)

    def _forget(self, conn: Any) -> None:
        """Watch a connection no longer."""
        self._closing.discard(conn)
        with suppress(ValueError):
            self.pending_conns.remove(conn)
        with suppress(KeyError, ValueError):  # not watched, or closed
            self.poller.unregister(conn.sock)

    def _close(self, conn: Any) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()


def _path(head: bytes) -> str:
    """Of a request that has come in part."""
    return [*head.split(b" ", 2), b""][1].decode("latin-1")


def _send_error(client: socket.socket, status: int, reason: str, path: str) -> None:
    """Answer what never came to the application, as the application would."""
    content = json.dumps(form_of(path, reason, status)).encode()
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        "X-Content-Type-Options: nosniff",
        *([] if status in PASSING else ["x-should-retry: false"]),
    )
    util.write_nonblock(client, "\r\n".join((*lines, "", "")).encode() + content)


def _arrived(conn: Any) -> tuple[bytes, bytes]:
    """What has come of a connection's next request: what gunicorn has read of it already, and what it has not."""
    read = conn.parser.unreader.buf.getvalue() if conn.parser else b""
    try:
        return read, conn.sock.recv(_MAX_HEADER_BYTES + 3, socket.MSG_PEEK)
    except OSError:  # nothing has come, or the client has reset the connection
        return read, b""
