"""Runs the server: gunicorn with one worker process, the device thread and the operations port inside it."""

import logging
import os
import resource
import socket
import threading
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer
from werkzeug.serving import WSGIRequestHandler, make_server

from whisper_server import __version__, config, heap, logs
from whisper_server.config import Settings
from whisper_server.engine.load import load
from whisper_server.http.admission import Admission, Limits, State, bound
from whisper_server.http.app import create_app
from whisper_server.http.auth import ApiKeys
from whisper_server.http.connection import Watchdog
from whisper_server.http.lifecycle import Lifecycle
from whisper_server.http.routes import ops
from whisper_server.http.routes.openai import model_id
from whisper_server.http.worker import Worker
from whisper_server.metrics import Metrics
from whisper_server.scheduling.measures import SchedulerCollector
from whisper_server.scheduling.scheduler import EXIT_STATUS, Scheduler

log = logging.getLogger(__name__)


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
        for line in (*config.unknown(os.environ), *(self._keys.complaints if self._keys else ())):
            log.warning("%s", line)
        self._scheduler = Scheduler(lambda: load(settings), settings.most_stall_seconds)
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
        metrics.describe(
            version=__version__, model=model_id(settings), engine=settings.engine, device=settings.device
        )
        metrics.registry.register(SchedulerCollector(self._scheduler))
        self._watchdog = Watchdog()
        self._ops = ops.create_app(self.state, metrics.registry)
        lifecycle = Lifecycle(settings, self._scheduler, admission, metrics, self._watchdog)
        return create_app(lifecycle, metrics, self._keys)

    def state(self) -> State:
        """Where this worker is in its life."""
        if self._worker is not None and not self._worker.alive:
            return State.DRAINING
        if self._scheduler.is_stalled():
            return State.STALLED
        return State.READY if self._scheduler.is_ready() else State.LOADING

    def _start(self, worker: Any) -> None:
        """Start what needs threads; gunicorn calls it in the worker, where threads survive."""
        self._worker = worker
        worker.max_drained_bytes = max(2 * self._settings.max_upload_bytes, worker.max_drained_bytes)
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
