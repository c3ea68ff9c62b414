"""A file under way, as the thread that serves its request sees it."""

import queue
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from whisper_server.transcribe.transcript import Transcript, Update


class Stopped(TimeoutError):
    """The work was given up because nobody waits for it any more."""


class Job:
    """As a context manager it is cancelled on leaving, if it is not done by then."""

    def __init__(self, deadline: float, cancel: Callable[["Job"], None]) -> None:
        """`deadline`: a time.monotonic(). `cancel`: told of this job when nobody waits for it any more."""
        self._deadline = deadline
        self._cancel = cancel
        self._news: queue.SimpleQueue[Update | Transcript | BaseException] = queue.SimpleQueue()
        self._transcript: Transcript | None = None
        self.started: float | None = None
        """When work on it began, as a time.monotonic(); set by the scheduler."""

    def updates(self, every: float | None = None) -> Iterator[Update | None]:
        """What becomes final, as it does; None whenever `every` seconds passed without news.

        Ends when the file is done: `transcript` returns at once then. Raises what made it fail, and TimeoutError at the deadline.
        """
        while self._transcript is None:
            left = self._deadline - time.monotonic()
            try:
                news = self._news.get(timeout=max(0.0, left if every is None else min(every, left)))
            except queue.Empty:
                if time.monotonic() >= self._deadline:
                    raise Stopped("the deadline has passed") from None
                yield None
                continue
            if isinstance(news, BaseException):
                try:
                    raise news
                finally:
                    del news  # else this frame, which the exception knows, would keep it
            if isinstance(news, Transcript):
                self._transcript = news
            else:
                yield news

    def transcript(self) -> Transcript:
        """Wait for the whole; raises what made it fail, and TimeoutError at the deadline."""
        for _ in self.updates():
            pass
        assert self._transcript is not None  # noqa: S101  # updates() ends no other way
        return self._transcript

    def cancel(self) -> None:
        """Stop working on it as soon as possible."""
        self._cancel(self)

    def tell(self, news: Update | Transcript | BaseException) -> None:
        """For the scheduler: the transcript or an exception comes last."""
        self._news.put(news)

    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return time.monotonic() > self._deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transcript is None:
            self.cancel()
