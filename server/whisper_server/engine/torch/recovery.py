"""What becomes of work that fails: it is tried again with less beside it, or the one request that it is about is answered so."""

import logging
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
from whisper_server.engine.torch.memory import Limit

Done = list[tuple[Ticket, Answer]]
R = TypeVar("R", Encode, Detect, Decode, Align)

TRIES = 12
"""How often a request that needs more memory than there is, alone, is tried."""
MOST_FAILURES = 3 * TRIES
"""How often memory may run out without a text between: then it is not this request or that one."""

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
        self._failures = 0
        """How often memory ran out since the last text."""

    def note(self, done: Done) -> None:
        """These have been answered."""
        for ticket, answer in done:
            self.forget(ticket)
            if isinstance(answer, Decoded):
                self._failures = 0

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits for it any more."""
        self._tries.pop(ticket, None)

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
            failure = Failure(problem, _is_out_of_memory(problem))
            if failure.out_of_memory:
                self._stats.out_of_memory += 1
                self._failures += needed
                if needed and self._failures >= MOST_FAILURES:
                    raise DeviceLost(
                        f"out of memory {MOST_FAILURES} times without a text between: {problem}"
                    ) from problem
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

    def again_or_fail(
        self,
        entries: Sequence[tuple[Ticket, R]],
        queue: deque[tuple[Ticket, R]],
        failure: Failure,
        done: Done,
    ) -> None:
        """Requests that failed together are tried again with less beside them; one alone is answered with what went wrong."""
        if len(entries) == 1:
            ((ticket, _),) = entries
            self._tries[ticket] += 1
            if not failure.out_of_memory or self._tries[ticket] >= TRIES:
                log.error("a request failed, alone: %r", failure.problem)
                done.append((ticket, failure.problem.with_traceback(None)))
                return
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


def _is_out_of_memory(problem: Exception) -> bool:
    """Libraries that ask the driver for memory themselves have words of their own for it."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(
        words in str(problem) for words in ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )
