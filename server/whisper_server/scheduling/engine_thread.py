"""The one thread that owns the model."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from whisper_server.engine.interface import Answer, DeviceLost, Engine, LoadError, Request, Ticket, Window

# gunicorn starts a new worker for one that died, quietly and without end, except for this status: then the
# whole server ends with it, and whoever runs the container sees that something is wrong.
EXIT_STATUS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Submit:
    ticket: Ticket
    request: Request


@dataclass(frozen=True)
class _Cancel:
    ticket: Ticket


@dataclass(frozen=True)
class _Release:
    window: Window


class EngineThread:
    """Loads an engine in a thread of its own and steps it. What is asked of it is done in the order that it was asked."""

    def __init__(
        self,
        load: Callable[[], Engine],
        loaded: Callable[[Engine], None],
        answer: Callable[[list[tuple[Ticket, Answer]]], None],
    ) -> None:
        """`loaded` and `answer` are called in the device thread, and must return at once."""
        self._load, self._loaded, self._answer = load, loaded, answer
        self._inbox: queue.SimpleQueue[_Submit | _Cancel | _Release] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin to load; returns at once."""
        threading.Thread(target=self._run, name="device", daemon=True).start()

    def submit(self, ticket: Ticket, request: Request) -> None:
        self._inbox.put(_Submit(ticket, request))

    def cancel(self, ticket: Ticket) -> None:
        """Confirmed by the answer None; the request's own answer may come before that."""
        self._inbox.put(_Cancel(ticket))

    def release(self, window: Window) -> None:
        self._inbox.put(_Release(window))

    def is_asked(self) -> bool:
        """Whether something was asked of it that it has not taken in, which it does after each step."""
        return not self._inbox.empty()

    def _run(self) -> None:
        try:
            begin = time.monotonic()
            engine = self._load()
            log.info("ready: %s, loaded in %.1f s", engine.description, time.monotonic() - begin)
            self._loaded(engine)
            while True:
                self._take_in(engine)
                self._step(engine)
        except LoadError as problem:
            log.critical("%s", problem)
        except DeviceLost as problem:
            log.critical("the device is lost, ending: %s", problem)
        except BaseException:
            log.critical("the device thread died, ending", exc_info=True)
        os._exit(EXIT_STATUS)

    def _step(self, engine: Engine) -> None:
        """On its own, as answers, and what an exception among them has come through, must not be kept until the next ones."""
        if answers := engine.step():
            self._answer(answers)

    def _take_in(self, engine: Engine) -> None:
        """All that was asked meanwhile; waits for something to do."""
        while True:
            try:
                message = self._inbox.get(block=not engine.busy())
            except queue.Empty:
                return
            match message:
                case _Submit(ticket, request):
                    engine.submit(ticket, request)
                case _Cancel(ticket):
                    engine.cancel(ticket)
                    self._answer([(ticket, None)])
                case _Release(window):
                    engine.release(window)
