"""Shows how a long build or download is getting on: one line rewritten on a terminal, a line now and then elsewhere."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

QUIET_INTERVAL = 30.0
"""Seconds between lines where standard error is no terminal."""


class Progress:
    """A step with a name, a count of `unit`, and how long it took last time (seconds; None: never done here)."""

    def __init__(
        self, name: str, last_time: float | None, *, unit: str = "packages", done: str = "built"
    ) -> None:
        self.name = name
        self.last_time = last_time
        self.unit = unit
        self.outcome = done
        self.total = 0
        self.done = 0
        self.seconds = 0.0
        self._started = 0.0
        self._stopped = threading.Event()
        self._terminal = sys.stderr.isatty()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._show()
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._ticker.join()
        self.seconds = time.monotonic() - self._started
        outcome = self.outcome if kind is None else "FAILED"
        self._write(f"{self.name}  {outcome} in {duration(self.seconds)}", last=True)

    def step(self) -> None:
        """One more package is being compiled."""
        self.done += 1

    def _tick(self) -> None:
        while not self._stopped.wait(0.5 if self._terminal else QUIET_INTERVAL):
            self._show()

    def _show(self) -> None:
        parts = [self.name]
        if self.total:
            parts.append(f"{self.done} of at most {self.total} {self.unit}")
        parts.append(duration(time.monotonic() - self._started))
        parts.append(f"(last time {duration(self.last_time)})" if self.last_time else "(first time here)")
        self._write("  ".join(parts), last=False)

    def _write(self, text: str, *, last: bool) -> None:
        if self._terminal:
            sys.stderr.write(f"\r\x1b[Kdevcluster: {text}" + ("\n" if last else ""))
        else:
            sys.stderr.write(f"devcluster: {text}\n")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """75.2 as '1 min 15 s'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
