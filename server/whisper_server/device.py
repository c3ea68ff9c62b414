"""The one thread that owns the model, and the way to it for the many threads that serve requests."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from whisper_server.engine import DeviceLost, Engine, LoadError, Options, Samples, Stopped, Transcript

# gunicorn starts a new worker for one that died, quietly and without end, except for this status: then the
# whole server ends with it, and whoever runs the container sees that something is wrong.
EXIT_STATUS = 3

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    samples: Samples
    options: Options
    deadline: float
    abandoned: bool = False
    result: "Future[Transcript]" = field(default_factory=Future)

    def should_stop(self) -> bool:
        return self.abandoned or time.monotonic() > self.deadline


class Device:
    """Loads the engine in a thread of its own and passes it one file after the other.

    The process ends when that thread does: without it nothing can be served, and a server that only looks
    alive is worse than one that is restarted.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._ready = threading.Event()

    def start(self) -> None:
        """Begin to load; returns at once."""
        threading.Thread(target=self._run, name="device", daemon=True).start()

    def is_ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._ready.is_set()

    def transcribe(self, samples: Samples, options: Options, deadline: float) -> Transcript:
        """Wait for the transcript; raises TimeoutError at `deadline` (time.monotonic())."""
        job = _Job(samples, options, deadline)
        self._jobs.put(job)
        try:
            return job.result.result(timeout=max(0.0, deadline - time.monotonic()))
        finally:
            job.abandoned = True

    def _run(self) -> None:
        try:
            begin = time.monotonic()
            engine = self._load()
            log.info("ready: %s, loaded in %.1f s", engine.description, time.monotonic() - begin)
            self._ready.set()
            while True:
                self._work(engine, self._jobs.get())
        except LoadError as problem:
            log.critical("%s", problem)
        except DeviceLost as problem:
            log.critical("the device is lost, ending: %s", problem)
        except BaseException:
            log.critical("the device thread died, ending", exc_info=True)
        os._exit(EXIT_STATUS)

    @staticmethod
    def _work(engine: Engine, job: _Job) -> None:
        try:
            if job.should_stop():
                raise Stopped
            job.result.set_result(engine.transcribe(job.samples, job.options, job.should_stop))
        except DeviceLost:
            raise
        except Exception as problem:
            job.result.set_exception(problem)
