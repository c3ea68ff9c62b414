"""How the C library keeps the memory that a process gives back."""

import ctypes


def keep() -> None:
    """Let this process, and those that it forks, keep memory that a computation gives back for the next one.

    CTranslate2 asks for hundreds of megabytes for each layer anew, and by default they come from the kernel each time, page by
    page: a third of the encoder's time, half of the decoder's. Call it before anything starts a thread, such as the import of
    numpy does: a heap that is there already goes on as it was, and who gets it is a matter of chance.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # no glibc
        return
    # From glibc's malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX.
    for parameter, value in ((-4, 0), (-1, (1 << 31) - 1), (-2, 64 << 20), (-8, 1)):
        mallopt(parameter, value)
