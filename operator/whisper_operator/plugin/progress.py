"""How far the files are: one line on a terminal, written over again and again; nothing elsewhere."""

import os
import shutil
import threading
from collections.abc import Sequence
from typing import TextIO

from whisper_operator.observed.foreign_words import printable
from whisper_operator.plugin.request import Told

SENT = 0.1
"""What part of the whole the upload counts, before it is known how the rest compares to it."""
WIDTH = 24
CLEAR = "\r\x1b[K"


class Progress:
    """Threads tell it, and one draws it."""

    def __init__(self, names: Sequence[str], output: TextIO) -> None:
        self.names = list(names)
        self._output = output
        self._lock = threading.Lock()
        self._told = [Told() for _ in names]
        self._done = [False for _ in names]
        self._draws = output.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False

    def tell(self, index: int, told: Told) -> None:
        with self._lock:
            self._told[index] = told

    def done(self, index: int) -> None:
        with self._lock:
            self._done[index] = True

    def draw(self) -> None:
        if self._draws:
            width = shutil.get_terminal_size((80, 24)).columns - 1
            with self._lock:
                text = line(self.names, self._told, self._done)[:width]
            self._write(CLEAR + text)
            self._drawn = True

    def clear(self) -> None:
        """Make room for other lines."""
        if self._drawn:
            self._write(CLEAR)
            self._drawn = False

    def say(self, words: str) -> None:
        self.clear()
        self._write(words + "\n")

    def _write(self, text: str) -> None:
        encoding = self._output.encoding or "utf-8"
        self._output.write(text.encode(encoding, "replace").decode(encoding))
        self._output.flush()


def line(names: Sequence[str], told: Sequence[Told], done: Sequence[bool]) -> str:
    """Such as `[#####---]  41%  3:20 of 8:12  meeting.mp3`."""
    parts = [1.0 if ended else _part(each) for each, ended in zip(told, done, strict=True)]
    whole = sum(parts) / len(parts)
    filled = int(whole * WIDTH)
    one = f"{_stage(told[0])}  {printable(names[0])}"
    what = one if len(names) == 1 else f"{sum(done)} of {len(names)} files done"
    return f"[{'#' * filled}{'-' * (WIDTH - filled)}] {whole:4.0%}  {what}"


def _part(told: Told) -> float:
    heard = min(1.0, told.heard / told.seconds) if told.seconds else 0.0
    return SENT * told.sent + (1 - SENT) * heard


def _stage(told: Told) -> str:
    if told.seconds:
        return f"{_clock(told.heard)} of {_clock(told.seconds)}"
    if told.sent == 1.0:
        return "transcribing"
    return f"sent {told.sent:.0%}" if told.sent else "connecting"


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
