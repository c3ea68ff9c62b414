"""Runs the server: gunicorn with one worker process, the device thread and the operations port inside it."""

import errno
import logging
import resource
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.serving import WSGIRequestHandler, make_server

from whisper_server import heap, logs
from whisper_server.admission import Admission, Limits, State, bound
from whisper_server.api import ops
from whisper_server.app import create_app
from whisper_server.config import Settings
from whisper_server.connection import Watchdog, is_gone
from whisper_server.engine.loading import load
from whisper_server.keys import ApiKeys
from whisper_server.metrics import Metrics
from whisper_server.scheduler import EXIT_STATUS, Scheduler
from whisper_server.transcribing import Transcribing

log = logging.getLogger(__name__)


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
_MIN_DRAINED_BYTES = 64 << 20
_PIECE = 64 << 10
_FILES = 1 << 16
"""Most open files: connections, and the parts of forms under way."""


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """The gunicorn application of one set of settings."""

    def __init__(self, settings: Settings, ops_socket: socket.socket, keys: ApiKeys | None) -> None:
        self._settings = settings
        self._keys = keys
        self._ops_socket = ops_socket
        super().__init__()

    def load_config(self) -> None:
        """Hand gunicorn its settings; called by gunicorn."""
        hooks = {"post_worker_init": self._start, "child_exit": _end_with_worker}
        for name, value in {**gunicorn_settings(self._settings), **hooks}.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Make the application; called by gunicorn in the worker, after the fork."""
        self._state = State.LOADING
        self._worker: Any = None
        settings = self._settings
        self._scheduler = Scheduler(lambda: load(settings))
        metrics = Metrics()
        limits = Limits(
            requests=settings.max_queue,
            bytes=settings.queue_bytes,
            audio_seconds=settings.queue_audio_seconds,
        )
        admission = Admission(limits, self.state)
        metrics.watch(
            lambda: admission.in_flight,
            lambda: self.state() is State.READY,
            lambda: admission.bytes,
            lambda: admission.audio_seconds,
        )
        self._watchdog = Watchdog()
        self._ops = ops.create_app(self.state, metrics.registry)
        transcribing = Transcribing(settings, self._scheduler, admission, metrics, self._watchdog)
        return create_app(transcribing, metrics, self._keys)

    def state(self) -> State:
        """Where this worker is in its life."""
        if self._worker is not None and not self._worker.alive:
            return State.DRAINING
        return State.READY if self._scheduler.is_ready() else State.LOADING

    def _start(self, worker: Any) -> None:
        """Start what needs threads; gunicorn calls it in the worker, where threads survive."""
        self._worker = worker
        worker.max_drained_bytes = max(2 * self._settings.max_upload_bytes, _MIN_DRAINED_BYTES)
        if not self._settings.keeps_memory:
            heap.give_back_regularly()
        self._watchdog.start()
        _serve_operations(self._ops, self._ops_socket)
        self._scheduler.start()


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """What gunicorn is told, by its own names."""
    return {
        "bind": _address(settings.bind, settings.port),
        # One process owns the device, and its threads only wait: for bodies, for ffmpeg, for their turn. More
        # of them than requests are admitted, so that refusals never wait behind accepted ones.
        "workers": 1,
        "worker_class": Worker,
        "threads": int(bound(settings.max_queue, holds_any=False)) + 32,
        "worker_connections": max(1000, 2 * settings.max_queue + 64),
        # For a worker that hangs as a whole: its main thread beats once a second, however long a
        # transcription takes.
        "timeout": 600,
        "graceful_timeout": settings.request_timeout_seconds,
        # Longer than the 600 s that Google's load balancer keeps an idle connection: the side that reuses a
        # connection must be the one to close it.
        "keepalive": 620,
        "accesslog": "-",
        "access_log_format": logs.ACCESS_FORMAT,
        "logconfig_dict": logs.config(settings.log_format),
        # A socket in the home directory, which a container with a read-only root has not.
        "control_socket_disable": True,
        "proc_name": "whisper-server",
    }


def allow_files() -> None:
    """As many open files as the machine lets this process have; many shells and some containers begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def open_socket(settings: Settings) -> socket.socket:
    """Listen on the operations port; raises OSError. Done before gunicorn starts: a taken port is seen."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    return socket.create_server((settings.bind, settings.ops_port), family=family)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's worker of threads, where a thread waits for no client but one that has been let in, or that does not read.

    gunicorn's own threads wait for the end of the headers, and for the rest of a body that was refused; its loop waits for
    clients to close. A few clients that send a byte and no more would hold them all.
    """

    max_drained_bytes = _MIN_DRAINED_BYTES
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
            self._refuse(conn, 431, f"the headers have more than {_MAX_HEADER_BYTES} bytes; send less")
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
        try:
            return super().handle_request(req, conn)
        except BlockingIOError:
            raise ConnectionResetError(errno.ECONNRESET, "the client does not read its answer") from None

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
                )

    def _refuse(self, conn: Any, status: int, reason: str) -> None:
        with suppress(OSError):
            util.write_error(conn.sock, status, HTTPStatus(status).phrase, reason)
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


def _arrived(conn: Any) -> tuple[bytes, bytes]:
    """What has come of a connection's next request: what gunicorn has read of it already, and what it has not."""
    read = conn.parser.unreader.buf.getvalue() if conn.parser else b""
    try:
        return read, conn.sock.recv(_MAX_HEADER_BYTES + 3, socket.MSG_PEEK)
    except OSError:  # nothing has come, or the client has reset the connection
        return read, b""


class _QuietHandler(WSGIRequestHandler):
    timeout = 10  # seconds; a probe that stalls must not keep a thread

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Probes come every few seconds: no line for each."""


def _serve_operations(app: Flask, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    server = make_server(host, port, app, threaded=True, request_handler=_QuietHandler, fd=listening.fileno())
    threading.Thread(target=server.serve_forever, name="operations", daemon=True).start()


def _end_with_worker(arbiter: Any, worker: Any) -> None:
    """End the server when its worker was killed, most likely for want of memory.

    gunicorn would start another one and say nothing; the end of the container is counted and shown.
    """
    if arbiter.LISTENERS:  # closed first when the server is told to stop
        raise HaltServer("the worker ended without being asked to", EXIT_STATUS)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
