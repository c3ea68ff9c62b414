"""Work on whole files outside the device: one file at a time, and clients take turns by the seconds of audio they have had."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from whisper_server.scheduling.fair_queue import Turns
from whisper_server.scheduling.job import Stopped

T = TypeVar("T")

LOOK_UP_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Whose turn a piece of work waits for, and how long."""

    client: str
    seconds: float
    """Of audio: what it costs."""
    deadline: float
    """A time.monotonic()."""
    look_up: Callable[[], None] = lambda: None
    """Called every second, and may raise to give up."""


class Listening(Generic[T]):
    """One thread: those of the libraries that do the work would get in each other's way."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._turns: Turns[tuple[Turn, Future[T], Callable[[], T]]] = Turns()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], T], turn: Turn) -> T:
        """What `work` returns or raises, once it was its turn. Raises Stopped at the deadline, and what looking up raises: work
        that nobody waits for any more is not begun."""
        future: Future[T] = Future()
        with self._changed:
            if self._thread is None:  # late: threads do not survive gunicorn's fork
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._turns.push(turn.client, future, (turn, future, work))
            self._changed.notify()
        try:
            while not wait([future], max(0.0, min(LOOK_UP_SECONDS, turn.deadline - time.monotonic()))).done:
                if time.monotonic() >= turn.deadline:
                    raise Stopped("the deadline has passed")
                turn.look_up()
        finally:
            future.cancel()
        return future.result()

    def _run(self) -> None:
        while True:
            self._do_next()

    def _do_next(self) -> None:
        """On its own, as it must not keep what it made while it waits for the next."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._turns))
            turn, future, work = self._turns.pop()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as problem:
            future.set_exception(problem)
        with self._changed:
            self._turns.charge(turn.client, turn.seconds)
