"""How the C library keeps the memory that a process gives back.

Call `keep` or `share` before anything starts a thread, such as the import of numpy does: a heap that is there already goes on as
it was, and who gets it is a matter of chance.
"""

import ctypes
import threading
import time
from collections.abc import Callable

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
M_ARENA_MAX = -8

GIVE_BACK_SECONDS = 30.0


def keep() -> None:
    """Let this process, and those that it forks, keep memory that a computation gives back for the next one.

    CTranslate2 asks for hundreds of megabytes for each layer anew, and by default they come from the kernel each time, page by
    page: a third of the encoder's time, half of the decoder's.
    """
    _set({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: (1 << 31) - 1, M_TOP_PAD: 64 << 20, M_ARENA_MAX: 1})


def share() -> None:
    """Let all threads have one heap together, as do those of the processes that are forked.

    By default there are up to eight for each core, and each keeps room for the most that its threads ever had at a time.
    """
    _set({M_ARENA_MAX: 1})


def give_back_regularly() -> None:
    """From now on hand what is free back to the kernel twice a minute, in a thread: between the pieces of many requests, that
    is more and more."""
    trim = _function("malloc_trim")

    def run() -> None:
        while True:
            time.sleep(GIVE_BACK_SECONDS)
            trim(0)

    threading.Thread(target=run, name="heap", daemon=True).start()


def _set(parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        _function("mallopt")(parameter, value)


def _function(name: str) -> Callable[..., int]:
    """One of glibc's; of another C library, that does nothing."""
    return getattr(ctypes.CDLL(None), name, lambda *_: 0)
