"""Work on whole files outside the device: a few at a time, clients take turns, and what nobody waits for is not begun."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from whisper_server.fair_queue import FairQueue

T = TypeVar("T")

CHECK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Whose turn a piece of work waits for, and how long."""

    client: str
    deadline: float
    """A time.monotonic()."""
    check_cancelled: Callable[[], None] = lambda: None
    """Called every second, and may raise to give up."""


class Executor(Generic[T]):
    """So many pieces of work at once, each in a thread of ours: libraries keep memory, and threads of their own, for each thread
    that calls them.

    Clients take turns by the seconds that their work has taken, so that nobody waits for another's pile.
    """

    def __init__(self, name: str, threads: int = 1, for_one: int | None = None) -> None:
        """`for_one`: how many of the threads one client may have, however few others there are; None: all.

        Work that has begun is never interrupted: whoever has all threads keeps everybody waiting for as long as it takes.
        """
        self._name = name
        self._unstarted = threads
        self._for_one = for_one or threads
        self._running: Counter[Hashable] = Counter()
        self._waiting: FairQueue[tuple[Turn, Future[T], Callable[[], T]]] = FairQueue()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """How many wait for their turn."""
        with self._changed:
            return len(self._waiting)

    def run(self, work: Callable[[], T], turn: Turn) -> T:
        """What `work` returns or raises, once it was its turn. Raises TimeoutError at the deadline, and what `check_cancelled`
        raises.

        Work that has begun is waited for: it holds what it was given until it ends. What may take long calls `check_cancelled`
        itself.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._unstarted:  # late: threads do not survive gunicorn's fork
                self._unstarted -= 1
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
            self._waiting.push(turn.client, future, (turn, future, work))
            self._changed.notify()
        try:
            while not wait([future], max(0.0, min(CHECK_SECONDS, turn.deadline - time.monotonic()))).done:
                if time.monotonic() >= turn.deadline:
                    raise TimeoutError("the deadline has passed")
                turn.check_cancelled()
            return future.result()
        finally:
            with self._changed:
                self._waiting.discard(future)
            if not future.cancel():
                wait([future])
            del future  # else this frame, which an exception knows, would keep it

    def _serve(self) -> None:
        while True:
            self._do_next()

    def _do_next(self) -> None:
        """On its own, as it must not keep what it made while it waits for the next."""
        with self._changed:
            self._changed.wait_for(lambda: any(map(self._may_begin, self._waiting.owners())))
            turn, future, work = self._waiting.pop(self._may_begin)
            if not future.set_running_or_notify_cancel():
                return
            self._running[turn.client] += 1
        begin = time.monotonic()
        try:
            result = work()
        except BaseException as problem:
            self._charge(turn, begin)
            future.set_exception(problem)
        else:
            self._charge(turn, begin)
            future.set_result(result)
        finally:
            del future, work  # as in `run`

    def _may_begin(self, client: Hashable) -> bool:
        return self._running[client] < self._for_one

    def _charge(self, turn: Turn, begin: float) -> None:
        """Before the answer is known, so that who asks again at once comes after those who wait."""
        with self._changed:
            self._waiting.charge(turn.client, time.monotonic() - begin)
            self._running -= Counter([turn.client])  # which forgets who has none
            self._changed.notify_all()  # what waits may have been waiting for this client's thread
