"""The way from the many threads that serve requests to the one thread that owns the model."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from whisper_server.engine import DeviceLost, LoadError, ModelInfo, Samples
from whisper_server.options import Options
from whisper_server.transcript import Transcript, Update

# gunicorn starts a new worker for one that died, quietly and without end, except for this status: then the
# whole server ends with it, and whoever runs the container sees that something is wrong.
EXIT_STATUS = 3

log = logging.getLogger(__name__)


class Stopped(TimeoutError):
    """The work was given up because nobody waits for it any more."""


class Job:
    """One file under way. As a context manager it is cancelled on leaving, if it is not done by then."""

    def __init__(self, samples: Samples, options: Options, deadline: float) -> None:
        self.samples, self.options = samples, options
        self.started: float | None = None
        """When work on it began, as a time.monotonic(); set by the scheduler."""
        self._deadline = deadline
        self._news: queue.SimpleQueue[Update | Transcript | BaseException] = queue.SimpleQueue()
        self._cancelled = False

    def updates(self, every: float | None = None) -> Iterator[Update | None]:
        """What becomes final, as it does; None whenever `every` seconds passed without news.

        Ends when the file is done: `transcript` returns at once then. Raises what made it fail, and TimeoutError at the deadline.
        """
        while not hasattr(self, "_transcript"):
            left = self._deadline - time.monotonic()
            try:
                news = self._news.get(timeout=max(0.0, left if every is None else min(every, left)))
            except queue.Empty:
                if time.monotonic() >= self._deadline:
                    raise TimeoutError("the deadline has passed") from None
                yield None
                continue
            if isinstance(news, BaseException):
                raise news
            if isinstance(news, Transcript):
                self._transcript = news
            else:
                yield news

    def transcript(self) -> Transcript:
        """Wait for the whole; raises what made it fail, and TimeoutError at the deadline."""
        for _ in self.updates():
            pass
        return self._transcript

    def cancel(self) -> None:
        """Stop working on it as soon as possible."""
        self._cancelled = True

    def put(self, news: Update | Transcript | BaseException) -> None:
        """For the scheduler."""
        self._news.put(news)

    def should_stop(self) -> bool:
        """For the scheduler."""
        return self._cancelled or time.monotonic() > self._deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


class Scheduler:
    """Loads the engine in a thread of its own and brings it work.

    The process ends when that thread does: without it nothing can be served, and a server that only looks
    alive is worse than one that is restarted.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._ready = threading.Event()
        self.info: ModelInfo | None = None
        """Of the loaded model; None before that."""

    def start(self) -> None:
        """Begin to load; returns at once."""
        threading.Thread(target=self._run, name="device", daemon=True).start()

    def is_ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._ready.is_set()

    def submit(self, samples: Samples, options: Options, *, client: str, deadline: float) -> Job:
        """Begin to transcribe a file. Clients take turns; `deadline` is a time.monotonic()."""
        job = Job(samples, options, deadline)
        self._jobs.put(job)
        return job

    def _run(self) -> None:
        try:
            begin = time.monotonic()
            engine = self._load()
            log.info("ready: %s, loaded in %.1f s", engine.description, time.monotonic() - begin)
            self.info = engine.info
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
    def _work(engine: Any, job: Job) -> None:
        try:
            if job.should_stop():
                raise Stopped
            job.started = time.monotonic()
            transcript = engine.transcribe(job.samples, job.options, job.should_stop)
            job.put(Update(delta=transcript.text, segments=transcript.segments))
            job.put(transcript)
        except DeviceLost:
            raise
        except Exception as problem:
            job.put(problem)
