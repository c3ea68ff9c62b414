"""What becomes of work that fails: it is tried again with less beside it, or the one request that it is about is answered so."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from whisper_server.engine.interface import (
    Align,
    Answer,
    Decode,
    Decoded,
    Detect,
    DeviceLost,
    Encode,
    Stats,
    Ticket,
)
from whisper_server.engine.patience import LONGEST_PAUSE, TRIES, pause_after
from whisper_server.engine.torch.memory import Limit, is_out_of_memory

Done = list[tuple[Ticket, Answer]]
R = TypeVar("R", Encode, Detect, Decode, Align)

MOST_FAILURES = 3 * TRIES
LOST_SECONDS = 20.0
"""How often memory may run out, and for how long, without a text between: then it is not this request or that one."""
NAP_SECONDS = 0.01
"""How long the device's thread sleeps at a time where nothing is to be done but to try again later."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """What went wrong."""

    problem: Exception
    out_of_memory: bool


class Recovery:
    """Of one engine."""

    def __init__(self, device: torch.device, stats: Stats) -> None:
        self._device, self._stats = device, stats
        self._tries: Counter[Ticket] = Counter()
        """How often those were tried that found no memory alone."""
        self._again: dict[Ticket, float] = {}
        """When these are tried again, as a time.monotonic()."""
        self._failures = 0
        """How often memory ran out since the last text."""
        self._failed_at = 0.0
        """When it did so last, as a time.monotonic()."""
        self._short_seconds = 0.0
        """How long it has been short since the last text, without the time in which nothing was tried."""

    def note(self, done: Done) -> None:
        """These have been answered."""
        for ticket, answer in done:
            self.forget(ticket)
            if isinstance(answer, Decoded):
                self._failures, self._short_seconds = 0, 0.0

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits for it any more."""
        self._tries.pop(ticket, None)
        self._again.pop(ticket, None)

    def rests(self, ticket: Ticket) -> bool:
        """Whether a request is to be tried again, but later."""
        return bool(self._again) and self._again.get(ticket, 0.0) > time.monotonic()

    def take(self, queue: deque[tuple[Ticket, R]], most: int) -> list[tuple[Ticket, R]]:
        """Take the first ones out of a queue; those that are tried again later stay in it."""
        if not self._again:
            return [queue.popleft() for _ in range(min(most, len(queue)))]
        taken = [entry for entry in queue if not self.rests(entry[0])][:most]
        for entry in taken:
            queue.remove(entry)
        return taken

    def nap(self) -> None:
        """Where there is nothing else to do, sleep a little if a request is to be tried again later."""
        if any(self.rests(ticket) for ticket in self._again):
            time.sleep(NAP_SECONDS)

    def count_memory(self) -> None:
        """Note how much of the device's memory is taken."""
        if self._device.type == "cuda":
            self._stats.memory_bytes = torch.cuda.memory_reserved()

    def attempt(
        self, work: Callable[[], None], limit: Limit, count: int, *, needed: bool = True
    ) -> Failure | None:
        """Do work for so many requests at once; how it failed, if it did, after which fewer will be tried.

        `needed`: whether requests wait for it, so that it is their loss if there is never memory for it. Raises DeviceLost for
        what concerns all of them, for ever.
        """
        try:
            work()
        except Exception as problem:
            failure = Failure(problem, is_out_of_memory(problem))
            if failure.out_of_memory:
                self._stats.out_of_memory += 1
                if needed:
                    self._count_failure(problem)
            else:
                self._check_device(problem)
            limit.failed(count)
            what = "out of memory" if failure.out_of_memory else "failed"
            log.warning(
                *("%s with %d at once, trying with %d: %s", what, count, limit.now, problem),
                exc_info=not failure.out_of_memory,
            )
        else:
            limit.went_well()
            return None
        # Only now, as until here the exception's frames kept what they had.
        failure.problem.__traceback__ = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self.count_memory()
        return failure

    def _count_failure(self, problem: Exception) -> None:
        """Raises DeviceLost if memory has run out too often, for too long."""
        now = time.monotonic()
        if self._failures:
            self._short_seconds += min(now - self._failed_at, LONGEST_PAUSE)
        self._failed_at = now
        self._failures += 1
        if self._failures >= MOST_FAILURES and self._short_seconds >= LOST_SECONDS:
            raise DeviceLost(
                f"out of memory {self._failures} times without a text between: {problem}"
            ) from problem

    def again_or_fail(
        self,
        entries: Sequence[tuple[Ticket, R]],
        queue: deque[tuple[Ticket, R]],
        failure: Failure,
        done: Done,
    ) -> None:
        """Requests that failed together are tried again with less beside them. One alone is answered with what went wrong, or, if
        that was a lack of memory, tried again a little later, for a while."""
        if len(entries) == 1:
            ((ticket, _),) = entries
            self._tries[ticket] += 1
            if not failure.out_of_memory or self._tries[ticket] >= TRIES:
                log.error("a request failed, alone: %r", failure.problem)
                done.append((ticket, failure.problem.with_traceback(None)))
                return
            self._again[ticket] = time.monotonic() + pause_after(self._tries[ticket])
        queue.extendleft(reversed(entries))

    def _check_device(self, problem: Exception) -> None:
        """Raises DeviceLost if the device is of no more use: after some errors, all that is asked of it fails."""
        if isinstance(problem, torch.AcceleratorError):
            raise DeviceLost(str(problem).splitlines()[0]) from problem
        if self._device.type != "cuda":
            return
        try:
            torch.cuda.synchronize()
        except RuntimeError as lost:
            raise DeviceLost(str(lost).splitlines()[0]) from problem
