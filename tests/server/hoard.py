"""A process whose threads take much memory from the heap and give most of it back: prints heaps, bytes held, bytes left."""

import ctypes
import threading
import time
from pathlib import Path

from whisper_server import heap

PIECE = 1 << 16
"""Bytes: small enough to come from the heap."""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def heaps(libc: ctypes.CDLL) -> int:
    """As malloc tells them, in XML."""
    libc.open_memstream.restype = ctypes.c_void_p
    libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    return (text.value or b"").count(b"<heap ")


def main() -> None:
    heap.share()
    heap.GIVE_BACK_SECONDS = 0.1
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    pieces: list[int] = []

    def take() -> None:
        for _ in range(500):
            piece = libc.malloc(PIECE)
            pieces.append(piece)
            ctypes.memset(piece, 1, PIECE)

    before = resident()
    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = resident() - before
    for number, piece in enumerate(pieces):
        if number % 100:
            libc.free(piece)
    heap.give_back_regularly()
    end = time.monotonic() + 30
    while resident() - before > 50 << 20 and time.monotonic() < end:
        time.sleep(0.1)
    print(heaps(libc), held, resident() - before)


if __name__ == "__main__":
    main()
