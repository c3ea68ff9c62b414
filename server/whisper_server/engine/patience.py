"""How long a request is tried again that finds not enough memory: what lacks it may be over in a second, or never."""

TRIES = 12
"""How often it is tried, alone: for eight seconds."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before it is tried again: twice as long each time."""


def pause_after(tries: int) -> float:
    """Seconds to wait after so many tries in vain."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1)))
