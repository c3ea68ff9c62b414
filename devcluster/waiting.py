"""Waits for what a cluster does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T | None], timeout: float = 30.0, interval: float = 0.1, what: str = "it"
) -> T:
    """The first true value that `probe` returns; what it raises meanwhile counts as not yet.

    Raises AssertionError after `timeout` seconds, with `what` was awaited and what the last try returned or raised.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            value = probe()
            if value:
                return value
            last = value
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not so after {timeout:.0f} s; last: {last!r}")
        time.sleep(interval)
