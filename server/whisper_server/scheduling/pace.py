"""How fast the device works, to tell at once what can't be done in time."""

import time
from collections import deque
from collections.abc import Iterator

KEPT_SECONDS = 600.0
"""How long a measurement counts: what was slow once is tried again."""
LEAST_SAMPLES = 8
"""Fewer say nothing."""


class TooMuchAudio(Exception):
    """A file that would not be done in time; seconds."""

    def __init__(self, audio: float, needed: float, left: float, *, alone: bool) -> None:
        super().__init__(
            f"{audio:.0f} seconds of audio need about {needed:.0f} seconds here, and {left:.0f} are left"
        )
        self.needed = needed
        self.fitting = audio * left / needed
        """How much audio would be done in time."""
        self.alone = alone
        """Whether it has the device for itself, so that it will need no less another time."""


class Pace:
    """Seconds that a second of audio takes, by how many windows are on the device at once.

    What is told is rather too little: noise, which is decoded several times, makes nobody else's file look long, and of more
    company than was ever measured, what less of it took.
    """

    def __init__(self) -> None:
        self._samples: dict[int, deque[tuple[float, float]]] = {}
        """Of each power of two of company: when measured, and seconds for a second of audio."""

    def note(self, company: int, seconds: float, audio_seconds: float) -> None:
        """A window took so long, `company` of them being on the device at its beginning or end, itself included."""
        samples = self._samples.setdefault(company.bit_length(), deque(maxlen=64))
        samples.append((time.monotonic(), seconds / audio_seconds))

    def needed(self, audio_seconds: float, company: int) -> float | None:
        """How long a file takes whose windows are done one after the other; None if that is not known."""
        known = [pace for power, pace in self._measured() if power <= company.bit_length()]
        return known[-1] * audio_seconds if known else None

    def needed_side_by_side(self, audio_seconds: float) -> float | None:
        """The same of a file whose windows fill the device."""
        known = [pace / (2**power - 1) for power, pace in self._measured()]
        return min(known) * audio_seconds if known else None

    def _measured(self) -> Iterator[tuple[int, float]]:
        """By rising company, what a quarter of the windows stayed below."""
        since = time.monotonic() - KEPT_SECONDS
        for power in sorted(self._samples):
            recent = sorted(pace for when, pace in list(self._samples[power]) if when >= since)
            if len(recent) >= LEAST_SAMPLES:
                yield power, recent[len(recent) // 4]
