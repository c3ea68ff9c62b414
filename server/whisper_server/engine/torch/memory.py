"""Memory: how much is taken at the start, by trying; and how much is done at a time, which is less where memory runs out, and as
much as before when that is over."""

import logging
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from whisper_server.engine.hardware import free_memory
from whisper_server.engine.interface import LoadError

SPARE_MEMORY = 1 << 28
"""Bytes left beside what the most work at once takes: memory is not given out without gaps."""
SPARE_GPU_MEMORY = 3 << 28
"""The same on a GPU, where what is recorded takes some of it."""

PATIENCE = 64
"""How often the smaller number has to go well before a larger one is tried; twice as often after each failure of one."""
MOST_PATIENCE = 4096

log = logging.getLogger(__name__)


class Limit:
    """How many of something may be done at once, from `least` to `most`."""

    def __init__(self, most: int, least: int = 1) -> None:
        self.most = self.now = most
        self._least = least
        self._went_well = 0
        self._patience = PATIENCE
        self._raised = False
        """Whether what is done now is tried again, after it was too much once."""

    def failed(self, tried: int) -> None:
        """So many were too many."""
        if self._raised:  # else it is the same shortage still, which is no reason to wait longer for its end
            self._patience = min(MOST_PATIENCE, self._patience * 2)
            self._raised = False
        self.now = max(self._least, min(self.now, tried) // 2)
        self._went_well = 0

    def went_well(self) -> None:
        """It did, once more: after a while, try twice as many again."""
        if self.now == self.most and not self._raised:
            return
        self._went_well += 1
        if self._went_well < self._patience:
            return
        self._went_well = 0
        if self.now == self.most:
            self._patience, self._raised = PATIENCE, False
        else:
            self.now, self._raised = min(self.most, max(1, self.now * 2)), True


def is_out_of_memory(problem: BaseException) -> bool:
    """Libraries that ask the driver for memory themselves have words of their own for it."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    words = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(problem, RuntimeError) and any(each in str(problem) for each in words)


class Sized(Protocol):
    """An engine, as far as its size matters."""

    @property
    def window_bytes(self) -> int:
        """Memory of one window, and of the row that decodes it."""

    @property
    def group_bytes(self) -> int:
        """Memory of all rows for groups."""

    def rehearse(self) -> None:
        """Do the most work at once that will ever be asked; raises RuntimeError, see is_out_of_memory."""

    def record(self) -> None:
        """Record what a GPU replays, if it does; raises RuntimeError, see is_out_of_memory."""


E = TypeVar("E", bound=Sized)


def as_large_as_fits(make: Callable[[int], E], most: int, device: str) -> E:
    """What `make` gives for so many windows as there is memory for beside the most work at once: that is found out by doing it.

    Raises LoadError where there is no memory for a single window.
    """
    return _on_gpu(make, most) if device == "cuda" else _on_cpu(make, most)


def _on_gpu(make: Callable[[int], E], most: int) -> E:
    free = free_memory("cuda")
    count, problem = most, ""
    while count > 0:
        engine = spare = None
        try:
            engine = make(count)
            spare = torch.empty(SPARE_GPU_MEMORY, dtype=torch.uint8, device="cuda")
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            engine.rehearse()
            needed = torch.cuda.max_memory_allocated() - before
            spare = None
            torch.cuda.empty_cache()
            engine.record()
        except RuntimeError as shortage:
            if not is_out_of_memory(shortage):
                raise
            problem = str(shortage).splitlines()[0]
        else:
            _tell(count, engine, needed, free)
            return engine
        del engine, spare  # before the next ones are made
        torch.cuda.empty_cache()
        count -= max(1, count // 8)
    raise _too_small("GPU", free, problem)


def _on_cpu(make: Callable[[int], E], most: int) -> E:
    """A machine that runs out of memory ends the process, so that the work is done beside one window, and measured."""
    free = free_memory("cpu")
    try:
        engine = make(1)
    except (RuntimeError, MemoryError) as shortage:
        raise _too_small("machine", free, str(shortage).splitlines()[0]) from shortage
    each, groups = engine.window_bytes, engine.group_bytes
    needed = _most_taken_by(engine.rehearse)
    count = min(most, (free - groups - needed - SPARE_MEMORY) // each)
    if count < 1:
        reason = (
            f"a window takes {each >> 20} MiB, {(groups + needed + SPARE_MEMORY) >> 20} MiB more are needed"
        )
        raise _too_small("machine", free, reason)
    _tell(count, engine, needed, free)
    del engine
    return make(count)


def _most_taken_by(work: Callable[[], None]) -> int:
    """How many bytes more the process had for a moment, while this was done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # what counts as the most begins anew
    except OSError:
        log.debug("the most memory so far can't be forgotten here")
    before = _most_resident()
    work()
    return _most_resident() - before


def _most_resident() -> int:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _tell(count: int, engine: Sized, needed: int, free: int) -> None:
    log.info(
        "memory: %d windows of %d MiB, %d MiB for beams, %d MiB for the most work at once, of %d MiB that were free",
        *(count, engine.window_bytes >> 20, engine.group_bytes >> 20, needed >> 20, free >> 20),
    )


def _too_small(where: str, free: int, reason: str) -> LoadError:
    return LoadError(
        f"the {where} has no memory left for a single window beside the model's weights: {reason}, "
        f"{free >> 20} MiB are free; use a smaller model or a larger {where}"
    )
